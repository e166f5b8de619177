"""An ordered list of keys and values, in which a key may be None or occur twice."""


class PairList:

    def __init__(self, keys=None, values=None, pair_list=None, pair_map=None):
        if (keys is None) != (values is None) or (keys is not None
                                                  and len(keys) != len(values)):
            raise ValueError("key value size mismatch.")
        self.keys = list(keys or [])
        self.values = list(values or [])
        for key, value in pair_list or []:
            self.add(key, value)
        for key, value in (pair_map or {}).items():
            self.add(key, value)

    def add(self, key=None, value=None, index=None, pair=None):
        """Appends a value, or inserts it at an index. A value of None is not added."""
        if pair is not None:
            key, value = pair
        if value is None:
            return
        at = len(self.keys) if index is None else index
        self.keys.insert(at, key)
        self.values.insert(at, value)

    def add_all(self, other):
        """Appends all pairs of another list."""
        if other is not None:
            self.keys.extend(other.get_keys())
            self.values.extend(other.get_values())

    def size(self):
        return len(self.keys)

    def is_empty(self):
        return not self.keys

    def get(self, key):
        """The first value of a key; None if there is none."""
        for at, known in enumerate(self.keys):
            if known == key:
                return self.values[at]
        return None

    def key_at(self, index: int):
        return self.keys[index]

    def value_at(self, index: int):
        return self.values[index]

    def get_keys(self) -> list:
        return self.keys

    def get_values(self) -> list:
        return self.values

    def __len__(self):
        return len(self.keys)

    def __iter__(self):
        return iter(zip(self.keys, self.values))
