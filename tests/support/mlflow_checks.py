"""What the checks with MLflow's own client share: one process runs many of them, and tells what each saw as JSON."""

import json
import os
import warnings

warnings.filterwarnings("ignore")
os.environ["GIT_PYTHON_REFRESH"] = "quiet"
os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "1"

import mlflow
import requests
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

client = MlflowClient()
results = {}


def check(function):
    """Runs it at once; what it raises is what it saw."""
    try:
        results[function.__name__] = function()
    except Exception as error:
        results[function.__name__] = {"raised": f"{type(error).__name__}: {error}"}


def refused(work):
    """Code and message of what the server refuses."""
    try:
        work()
    except MlflowException as error:
        return [error.error_code, error.message]
    except requests.HTTPError as error:
        return [error.response.json()["error_code"], str(error)]
    return ["nothing", ""]


def report():
    print(json.dumps({"version": mlflow.__version__, **results}))
