"""An S3 that is not ours: moto's, on a free port of this machine.

    serve.py FOLDER PREFIX

The bucket `bucket` has the folder's files below the prefix, and 1100 objects below `many/`, more than a listing's page
has. All that asks must be its one user. Prints its address, the user's key and its secret; ends with standard input.
"""
import logging
import os
import sys
from pathlib import Path

# So many requests need no user: those that make one.
os.environ["INITIAL_NO_AUTH_ACTION_COUNT"] = "3"

import boto3
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

REGION = "eu-west-1"
READING = """{"Version": "2012-10-17", "Statement":
  [{"Effect": "Allow", "Action": ["s3:*"], "Resource": "*"}]}"""


def main(folder, prefix):
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"

    def client(service, key, secret):
        return boto3.client(service, endpoint_url=url, region_name=REGION, aws_access_key_id=key,
                            aws_secret_access_key=secret)

    iam = client("iam", "first", "first")
    iam.create_user(UserName="sconce")
    iam.put_user_policy(UserName="sconce", PolicyName="s3", PolicyDocument=READING)
    key = iam.create_access_key(UserName="sconce")["AccessKey"]
    s3 = client("s3", key["AccessKeyId"], key["SecretAccessKey"])
    s3.create_bucket(Bucket="bucket", CreateBucketConfiguration={"LocationConstraint": REGION})
    for file in Path(folder).iterdir():
        if file.is_file():
            s3.upload_file(str(file), "bucket", f"{prefix}/{file.name}")
    for number in range(1100):
        s3.put_object(Bucket="bucket", Key=f"many/note-{number:04}.txt", Body=b"")
    for file in Path(folder).iterdir():
        if file.is_file():
            s3.upload_file(str(file), "bucket", f"many/{file.name}")
    print(url, key["AccessKeyId"], key["SecretAccessKey"], flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
