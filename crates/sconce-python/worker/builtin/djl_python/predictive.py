"""What the handlers of scikit-learn and XGBoost share: tables of numbers in, predictions out."""

from io import StringIO

from .custom_formatter_handling import CustomFormatterHandler
from .encode_decode import decode
from .inputs import Input
from .outputs import Output
from .utils import find_model_file

_ACCEPTED = ("application/json", "text/csv")


class PredictiveHandler(CustomFormatterHandler):
    """A handler around a model that predicts from rows of numbers."""

    #: The endings of the files of each format.
    formats: dict = {}

    def __init__(self):
        super().__init__()
        self.model = None
        self.initialized = False
        self.init_properties = {}

    def format_of(self, properties: dict) -> str:
        """The format of the model's file."""
        raise NotImplementedError

    def load(self, file: str, model_format: str, properties: dict):
        """The model that a file holds."""
        raise NotImplementedError

    def predict(self, rows):
        """Predictions of the model for an array of two dimensions."""
        raise NotImplementedError

    def initialize(self, properties: dict):
        self.init_properties = dict(properties)
        model_dir = properties.get("model_dir")
        model_format = self.format_of(properties)
        endings = self.formats.get(model_format)
        if endings is None:
            raise ValueError(f"Unsupported model format: {model_format}. Supported formats: "
                             f"{', '.join(self.formats)}")
        self.load_formatters(model_dir)
        self.model = self.apply_init_handler(model_dir)
        if self.model is None:
            file = find_model_file(model_dir, endings)
            if file is None:
                raise FileNotFoundError(f"No model file found with format '{model_format}' in "
                                        f"{model_dir}; its name must end with "
                                        f"{' or '.join('.' + end for end in endings)}")
            self.model = self.load(file, model_format, properties)
        self.initialized = True

    def inference(self, inputs: Input) -> Output:
        content_type = inputs.get_property("Content-Type") or ""
        accept = inputs.get_property("Accept") or "*/*"
        if accept == "*/*":
            accept = self.init_properties.get("default_accept", "application/json")
        if self.output_formatter is None and not any(kind in accept for kind in _ACCEPTED):
            raise ValueError(f"Unsupported Accept type: {accept}. "
                             f"Supported types: {', '.join(_ACCEPTED)}")
        rows = self._rows(inputs, content_type)
        predictions = self.apply_prediction_handler(rows, self.model)
        if predictions is None:
            predictions = self.predict(rows)
        return self._answer(predictions, accept)

    def _rows(self, inputs: Input, content_type: str):
        rows = self.apply_input_formatter(inputs, content_type=content_type)
        if rows is inputs:
            import numpy as np

            if "text/csv" in content_type:
                rows = decode(inputs, content_type, require_csv_headers=False)
            else:
                body = decode(inputs, content_type)
                rows = np.array(body.get("inputs") if isinstance(body, dict) else body)
        if rows is None or not hasattr(rows, "ndim"):
            raise ValueError(f"Input processing failed for content type {content_type}: an array "
                             f"of numbers is needed, not {type(rows).__name__}")
        return rows.reshape(1, -1) if rows.ndim == 1 else rows

    def _answer(self, predictions, accept: str) -> Output:
        outputs = Output()
        made = self.apply_output_formatter(predictions, accept=accept)
        if made is not predictions:
            if self.is_sagemaker_script:
                outputs.add_property("Content-Type", accept)
            return outputs.add(made)
        if "text/csv" in accept:
            import numpy as np

            table = StringIO()
            np.savetxt(table, predictions, fmt="%s", delimiter=",")
            outputs.add_property("Content-Type", "text/csv")
            return outputs.add(table.getvalue().rstrip())
        return outputs.add_as_json({"predictions": predictions.tolist()})


def require_trust(properties: dict, formats: str, why: str):
    """Refuses files that run code when they are loaded, unless they are trusted."""
    if str(properties.get("trust_insecure_model_files", "false")).lower() != "true":
        raise ValueError("option.trust_insecure_model_files must be set to 'true' to use "
                         f"{formats} ({why})")
