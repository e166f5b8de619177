"""Requests and answers of text generation, as formatters of `model.py` see them."""

from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Optional, Union


class Token:
    """A token of an answer."""

    def __init__(self,
                 id: int,
                 text: str,
                 log_prob: Optional[float] = None,
                 special_token: Optional[bool] = None,
                 error_msg: Optional[str] = None):
        self.id = id
        self.text = text
        self.log_prob = log_prob
        self.special_token = special_token
        self.request_id = None
        self.error_msg = error_msg

    def __repr__(self):
        return f"Token({self.as_dict()})"

    def as_dict(self) -> dict:
        return self._as_dict("log_prob", "special_token", "error_msg")

    def as_tgi_dict(self) -> dict:
        return self._as_dict("logprob", "special", None)

    def _as_dict(self, log_prob: str, special: str, error) -> dict:
        values = {"id": self.id, "text": self.text, log_prob: self.log_prob}
        if self.special_token:
            values[special] = self.special_token
        if error is not None and self.error_msg:
            values[error] = self.error_msg
        return values


@dataclass
class Sequence:
    """The tokens of one answer, which are read one after the other."""
    tokens: List[Token] = field(default_factory=list)
    top_tokens: List[List[Token]] = field(default_factory=list)
    cumulative_log_prob: float = 0.0
    finish_reason: Optional[str] = None
    stop_reason: Optional[str] = None
    _last_token_index: Optional[int] = None
    _next: int = 0
    _next_top: int = 0

    def set_next_token(self, token: Token, is_last_token: bool = False):
        self.tokens.append(token)
        if is_last_token:
            self._last_token_index = len(self.tokens) - 1

    def set_next_top_tokens(self, top_tokens: List[Token]):
        self.top_tokens.append(top_tokens)

    def has_next_token(self) -> bool:
        return self._next < len(self.tokens)

    def has_next_top_tokens(self) -> bool:
        return self._next_top < len(self.top_tokens)

    def get_next_token(self):
        """The next token, its place, and whether it is the first and the last."""
        if not self.has_next_token():
            return None, 0, False, False
        at = self._next
        self._next += 1
        return self.tokens[at], at, at == 0, at == self._last_token_index

    def get_last_token(self) -> Optional[Token]:
        return None if self._last_token_index is None else self.tokens[self._last_token_index]

    def get_next_top_tokens(self) -> Optional[List[Token]]:
        if not self.has_next_top_tokens():
            return None
        self._next_top += 1
        return self.top_tokens[self._next_top - 1]


@dataclass
class RequestInput:
    """What every request has."""
    request_id: Optional[int] = None
    client_request_id: Optional[str] = None
    output_formatter: Union[Callable, str, None] = None
    parameters: Dict = field(default_factory=dict)
    server_parameters: Dict = field(default_factory=dict)
    tgi_compat: bool = False


@dataclass
class TextInput(RequestInput):
    """A request that continues a text."""
    input_text: Union[str, List[str], None] = None
    adapters: Optional[Any] = None
    tokenizer: Optional[Any] = None


@dataclass
class RequestOutput:
    """What every answer has."""
    request_id: int
    input: RequestInput
    finished: bool = False


@dataclass
class TextGenerationOutput(RequestOutput):
    """The sequences that were generated for a request."""
    sequences: Dict[int, Sequence] = field(default_factory=dict)
    best_sequence_index: int = 0
    prompt_tokens_details: List[Token] = field(default_factory=list)
    other_sequences_indices: List[int] = field(default_factory=list)

    def __post_init__(self):
        self.sequences[self.best_sequence_index] = Sequence()

    def set_next_token(self,
                       token: Token,
                       sequence_index: int = 0,
                       is_last_token: bool = False,
                       finish_reason: Optional[str] = None):
        sequence = self.sequences.setdefault(sequence_index, Sequence())
        sequence.set_next_token(token, is_last_token)
        if finish_reason:
            sequence.finish_reason = finish_reason

    def set_next_top_tokens(self, top_tokens: List[Token], sequence_index: int):
        self.sequences[sequence_index].set_next_top_tokens(top_tokens)

    def set_best_sequence_index(self, sequence_index: int):
        self.best_sequence_index = sequence_index

    def set_finish_reason(self, finish_reason: str, sequence_index: int = 0):
        self.sequences[sequence_index].finish_reason = finish_reason

    def get_tokens_as_dict(self, sequence_index: int = 0) -> List[dict]:
        return self._as_dicts(self.sequences[sequence_index].tokens)

    def get_prompt_tokens_as_dict(self) -> List[dict]:
        return self._as_dicts(self.prompt_tokens_details)

    def get_top_tokens_as_dict(self, sequence_index: int = 0) -> List[List[dict]]:
        return [self._as_dicts(tokens) for tokens in self.sequences[sequence_index].top_tokens]

    def _as_dicts(self, tokens: List[Token]) -> List[dict]:
        if self.input.tgi_compat:
            return [token.as_tgi_dict() for token in tokens]
        return [token.as_dict() for token in tokens]
