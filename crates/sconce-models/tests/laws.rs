mod goldens;
