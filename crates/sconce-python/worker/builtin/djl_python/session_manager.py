"""Sessions: values that a handler keeps in files between the requests of one conversation."""

import logging
import os
import pickle
import shutil
import tempfile
import time
import uuid
from typing import Dict, Optional


class Session:

    def __init__(self,
                 session_id: str,
                 session_root: str,
                 expiration_ts: Optional[float] = None):
        self.session_id = session_id
        self.files_path = os.path.join(session_root, session_id)
        self.expiration_ts = expiration_ts
        if self.expiration_ts is None:
            self.expiration_ts = self.get(".expiration_ts")

    def put(self, key: str, value):
        """Keeps a value."""
        path = self._path(key)
        with open(path + ".new", "wb") as f:
            pickle.dump(value, f)
        os.replace(path + ".new", path)

    def get(self, key: str, d=None):
        """The value that was kept, or `d`."""
        path = self._path(key)
        if not os.path.isfile(path):
            return d
        with open(path, "rb") as f:
            return pickle.load(f)

    def get_as_numpy(self, key: str, shape, dtype=None, create: bool = False):
        """An array that lies in a file: what is written into it is kept.

        :param dtype: NumPy's type; None: float32
        """
        import numpy as np

        if create:
            open(self._path(key), "wb").close()
            mode = "w+"
        else:
            mode = "r+"
        return np.memmap(self._path(key), dtype=dtype or np.float32, mode=mode, shape=shape)

    def remove(self) -> bool:
        if not os.path.exists(self.files_path):
            raise ValueError(f"session directory does not exist: {self.session_id}")
        logging.info(f"closing session: {self.session_id}")
        shutil.rmtree(self.files_path)
        return True

    def _path(self, key: str) -> str:
        return os.path.join(self.files_path, key.replace("/", "-"))


class SessionManager:
    """The sessions of a worker.

    Properties: `sessions_path` (a directory), `sessions_expiration` (seconds, 1200).
    """

    def __init__(self, properties: dict):
        self.expiration = int(properties.get("sessions_expiration", str(20 * 60)))
        shared = "/dev/shm" if os.path.exists("/dev/shm") else tempfile.gettempdir()
        self.sessions_path = properties.get("sessions_path", os.path.join(shared, "djl_sessions"))
        if properties.get("sessions_s3url"):
            raise ValueError("sessions_s3url: sessions are not kept in S3; set sessions_path to a "
                             "directory that lasts, and remove sessions_s3url")
        os.makedirs(self.sessions_path, exist_ok=True)
        self.sessions: Dict[str, Session] = {
            name: Session(name, self.sessions_path)
            for name in os.listdir(self.sessions_path)
        }

    def create_session(self) -> Session:
        self._clean_expired_session()
        session_id = str(uuid.uuid4())
        session = Session(session_id, self.sessions_path, time.time() + self.expiration)
        os.makedirs(session.files_path)
        session.put(".expiration_ts", session.expiration_ts)
        self.sessions[session_id] = session
        return session

    def get_session(self, session_id: str) -> Optional[Session]:
        """The session; None if there is no id, or it has expired.

        :raises ValueError: there is no such session
        """
        if not session_id or session_id == "NEW_SESSION":
            return None
        session = self._known(session_id)
        if session.expiration_ts is not None and time.time() > session.expiration_ts:
            logging.info(f"Session expired: {session_id}")
            return None
        return session

    def close_session(self, session_id: str):
        if not session_id:
            raise ValueError(f"invalid session_id: {session_id}")
        self._known(session_id).remove()
        del self.sessions[session_id]

    def _known(self, session_id: str) -> Session:
        # Another worker of the model may have created it.
        if session_id not in self.sessions and _is_uuid(session_id) and os.path.isdir(
                os.path.join(self.sessions_path, session_id)):
            self.sessions[session_id] = Session(session_id, self.sessions_path)
        if session_id not in self.sessions:
            raise ValueError(f"session not found: {session_id}")
        return self.sessions[session_id]

    def _clean_expired_session(self):
        now = time.time()
        for session_id, session in list(self.sessions.items()):
            if session.expiration_ts is None or now > session.expiration_ts:
                self.close_session(session_id)


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False
