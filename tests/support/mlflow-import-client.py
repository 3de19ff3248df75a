"""Fills an MLflow server (`fill`), or tells as JSON all that a client sees of one (`look`)."""

import json
import math
import os
import sys
import tempfile
import warnings

warnings.filterwarnings("ignore")
os.environ["GIT_PYTHON_REFRESH"] = "quiet"

import mlflow
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelStatus, Metric, Param, RunTag, ViewType
from mlflow.tracking import MlflowClient

client = MlflowClient()
POINTS = 2_500


def number(value):
    return value if math.isfinite(value) else str(value)


def text_file(folder, name, content):
    path = os.path.join(folder, name)
    with open(path, "wb") as file:
        file.write(content)
    return path


def log_model(name, experiment, run, folder):
    """A logged model with two files, as `log_model` leaves it."""
    model = client.create_logged_model(experiment, name=name, source_run_id=run, tags={"made": "by hand"}, params={"depth": "3"}, model_type="test")
    client.log_model_artifacts(model.model_id, folder)
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    return model


def fill():
    client.set_experiment_tag("0", "kept", "yes")
    first = client.create_experiment("flights", tags={"team": "data", "größe": "grün"})
    second = client.create_experiment("spam")
    gone = client.create_experiment("gone")
    # its files are no server's: clients write them, and the server reads them for its pages
    local = client.create_experiment("local", artifact_location="file://" + os.path.join(os.environ["HOME"], "local"))
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for index in range(6):
            run = client.create_run(first if index < 4 else second, run_name=f"run {index}", start_time=1_700_000_000_000 + index, tags={"n": str(index)}).info.run_id
            runs.append(run)
            client.log_batch(run, params=[Param("depth", str(index)), Param("a/b c", "ünï"), Param("long", "x" * 6_000)], tags=[RunTag("note", "line\nline")])
            for begin in range(0, POINTS if index == 0 else 10, 500):
                client.log_batch(run, metrics=[Metric("loss", 1 / (step + 1), 1_700_000_000_000 + step, step) for step in range(begin, min(begin + 500, POINTS if index == 0 else 10))])
            client.log_batch(run, metrics=[Metric("odd", value, 1_700_000_000_123, step) for step, value in enumerate([math.nan, math.inf, -math.inf, -1.5, 1e-300])])
            client.log_artifact(run, text_file(folder, "notes.txt", f"notes of {index}".encode()), "deep/er")
            client.log_artifact(run, text_file(folder, "größe 1+2%.bin", bytes(range(256)) * (index + 1)))
            client.log_artifact(run, text_file(folder, "empty", b""))
            client.log_artifact(run, text_file(folder, "same.txt", b"the same in all"))
            if index == 0:
                data = Dataset(name="flights", digest="abc123", source_type="http", source='{"url": "https://example.com"}', schema='{"a": "long"}', profile='{"rows": 3}')
                client.log_inputs(run, datasets=[DatasetInput(data, [InputTag("mlflow.data.context", "training")])])
            if index != 3:
                client.set_terminated(run, ["FINISHED", "FAILED", "KILLED"][index % 3], end_time=1_700_000_100_000 + index)
        client.delete_run(runs[2])
        aside = client.create_run(local, run_name="aside").info.run_id
        client.log_artifact(aside, text_file(folder, "notes.txt", b"aside"), "deep")
        client.set_terminated(aside)
        old = client.create_run(gone, run_name="old").info.run_id
        client.log_metric(old, "m", 1)
        client.set_terminated(old)
        client.delete_experiment(gone)

        model_folder = os.path.join(folder, "model")
        os.makedirs(os.path.join(model_folder, "data"))
        text_file(model_folder, "MLmodel", b"flavors: {}\n")
        text_file(model_folder, "data/weights.bin", b"\0weights" * 100)
        logged = log_model("net", first, runs[0], model_folder)
        client.log_batch(runs[0], metrics=[Metric("score", 0.5, 1_700_000_000_500, 1, model_id=logged.model_id, dataset_name="flights", dataset_digest="abc123")])
        client.log_artifacts(runs[1], model_folder, "model")
    client.create_registered_model("net", tags={"owner": "team"}, description="A model.\nOf two versions.")
    client.create_model_version("net", f"models:/{logged.model_id}", run_id=runs[0], model_id=logged.model_id, tags={"v": "1"}, description="the first")
    client.create_model_version("net", f"runs:/{runs[1]}/model", run_id=runs[1])
    client.create_model_version("net", client.get_run(runs[1]).info.artifact_uri + "/model", run_id=runs[1])
    client.delete_model_version("net", "2")
    client.set_registered_model_alias("net", "champion", "3")
    client.set_registered_model_alias("net", "old", "1")
    client.transition_model_version_stage("net", "1", "Archived")
    client.create_registered_model("bare")
    client.create_model_version("bare", "s3://bucket/of/others")
    return {"runs": runs, "running": runs[3]}


def tree(list_of, download, path=None):
    files = {}
    for entry in list_of(path):
        if entry.is_dir:
            files.update(tree(list_of, download, entry.path))
        else:
            with open(download(entry.path), "rb") as file:
                files[entry.path] = file.read().hex()[:4_000]
    return files


def look():
    seen = {"experiments": {}, "models": {}}
    names = {}
    for experiment in client.search_experiments(view_type=ViewType.ALL):
        names[experiment.experiment_id] = experiment.name
        runs = {}
        for run in client.search_runs([experiment.experiment_id], run_view_type=ViewType.ALL):
            info = run.info
            runs[info.run_id] = {
                "info": [info.run_name, info.status, info.start_time, info.end_time, info.lifecycle_stage, info.user_id],
                "params": run.data.params,
                "tags": run.data.tags,
                "metrics": {key: number(value) for key, value in run.data.metrics.items()},
                "history": {key: sorted([m.step, m.timestamp, str(m.value)] for m in client.get_metric_history(info.run_id, key)) for key in run.data.metrics},
                "inputs": [[i.dataset.name, i.dataset.digest, i.dataset.source, i.dataset.schema, i.dataset.profile, [[t.key, t.value] for t in i.tags]] for i in run.inputs.dataset_inputs],
                "files": tree(lambda path: client.list_artifacts(info.run_id, path), lambda path: client.download_artifacts(info.run_id, path)),
            }
        models = {}
        for model in client.search_logged_models([experiment.experiment_id]) if experiment.lifecycle_stage == "active" else []:
            models[model.model_id] = {
                "info": [model.name, str(model.status), model.creation_timestamp, model.source_run_id, model.model_type, model.tags, model.params],
                "metrics": [[m.key, m.value, m.timestamp, m.step, m.run_id, m.dataset_name] for m in model.metrics or []],
                "files": tree(lambda path: client.list_logged_model_artifacts(model.model_id, path), lambda path: os.path.join(mlflow.artifacts.download_artifacts(f"models:/{model.model_id}"), path)),
            }
        seen["experiments"][experiment.name] = {
            "info": [experiment.lifecycle_stage, experiment.creation_time if experiment.name != "Default" else None, experiment.tags],
            "runs": runs,
            "models": models,
        }
    for model in client.search_registered_models():
        versions = {}
        for version in client.search_model_versions(f"name='{model.name}'"):
            try:
                with open(os.path.join(mlflow.artifacts.download_artifacts(f"models:/{model.name}/{version.version}"), "MLmodel")) as file:
                    content = file.read()
            except Exception:
                content = None
            versions[version.version] = [version.creation_timestamp, version.current_stage, version.description or "", version.run_id or "", version.tags, content]
        seen["models"][model.name] = {"info": [model.creation_timestamp, model.description or "", model.tags, model.aliases], "versions": versions}
    return seen


print(json.dumps({"fill": fill, "look": look}[sys.argv[1]](), sort_keys=True))
