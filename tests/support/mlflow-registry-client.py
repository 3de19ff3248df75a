"""What MLflow's own client does with models and files, and sees, told as JSON: one process, many checks."""

import json
import os
import sys
import tempfile
import threading

# first: it says what MLflow's import looks at
from mlflow_checks import check, client, refused, report  # isort: skip

import mlflow
import numpy
import sklearn
from mlflow.models import infer_signature
from mlflow.tracking import MlflowClient
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

MILLRACE_MODEL, MILLRACE_ROWS, PIPELINE_RUN = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
rows, classes = load_iris(return_X_y=True, as_frame=True)


def run_id():
    return client.create_run("0").info.run_id


# requirements are given: to find them out the client starts another Python, which takes seconds; autologging does it below
@check
def sklearn_champion():
    model = LogisticRegression(max_iter=500).fit(rows, classes)
    with mlflow.start_run() as run:
        logged = mlflow.sklearn.log_model(
            model,
            name="model",
            registered_model_name="iris",
            signature=infer_signature(rows, model.predict(rows)),
            pip_requirements=[f"scikit-learn=={sklearn.__version__}"],
        )
    client.set_registered_model_alias("iris", "champion", 1)
    loaded = mlflow.sklearn.load_model("models:/iris@champion")
    flavour = mlflow.pyfunc.load_model("models:/iris/1")
    by_run = mlflow.pyfunc.load_model(f"runs:/{run.info.run_id}/model")
    version = client.get_model_version_by_alias("iris", "champion")
    return {
        "same": bool((loaded.predict(rows) == model.predict(rows)).all()),
        "pyfunc": bool((flavour.predict(rows) == model.predict(rows)).all()),
        "by_run": bool((by_run.predict(rows) == model.predict(rows)).all()),
        "version": [version.name, int(version.version), version.run_id == run.info.run_id, version.status, version.current_stage],
        "source": version.source == f"models:/{logged.model_id}",
        "aliases": list(version.aliases),
        "registered": dict(client.get_registered_model("iris").aliases),
    }


@check
def autologged():
    mlflow.sklearn.autolog(log_datasets=True)
    try:
        with mlflow.start_run() as run:
            LogisticRegression(C=0.5, max_iter=500).fit(rows, classes)
    finally:
        mlflow.sklearn.autolog(disable=True)
    found = client.get_run(run.info.run_id)
    registered = mlflow.register_model(f"runs:/{run.info.run_id}/model", "autologged")
    return {
        "C": found.data.params.get("C"),
        "metrics": sorted(found.data.metrics),
        "files": sorted(file.path for file in client.list_artifacts(run.info.run_id)),
        "loaded": bool(mlflow.pyfunc.load_model(f"models:/autologged/{registered.version}").predict(rows) is not None),
    }


@check
def onnx_model():
    import onnx
    from skl2onnx import to_onnx

    model = LogisticRegression(max_iter=500).fit(rows, classes)
    graph = to_onnx(model, rows.to_numpy()[:1].astype(numpy.float32))
    with mlflow.start_run():
        mlflow.onnx.log_model(
            graph,
            name="graph",
            registered_model_name="iris-onnx",
            signature=infer_signature(rows, model.predict(rows)),
            pip_requirements=["onnx"],
        )
    return {"zipmap": "ZipMap" in [node.op_type for node in graph.graph.node], "probabilities": model.predict_proba(rows[:3]).tolist()}


@check
def millrace_version():
    import onnxruntime

    version = client.get_model_version(MILLRACE_MODEL, "1")
    folder = mlflow.artifacts.download_artifacts(f"models:/{MILLRACE_MODEL}/1")
    graph = mlflow.onnx.load_model(f"models:/{MILLRACE_MODEL}/1")
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    return {
        "source": version.source,
        "files": sorted(name for name in os.listdir(folder) if name != "registered_model_meta"),
        "answer": session.run(["output"], {"numbers": numpy.array(MILLRACE_ROWS, dtype=numpy.float32)})[0].tolist(),
    }


@check
def in_a_stage():
    there = MlflowClient(tracking_uri=f"{mlflow.get_tracking_uri()}/stages/{PIPELINE_RUN}/train%232")
    there.log_metric(PIPELINE_RUN, "loss", 0.5, step=1)
    there.log_param(PIPELINE_RUN, "depth", 6)
    there.log_text(PIPELINE_RUN, "words", "notes.txt")
    other = run_id()
    there.log_metric(other, "loss", 0.25)
    client.log_metric(PIPELINE_RUN, "loss", 0.75)
    seen = client.get_run(PIPELINE_RUN).data
    return {
        "metrics": seen.metrics,
        "params": seen.params,
        "other": client.get_run(other).data.metrics,
        "notes": mlflow.artifacts.load_text(f"runs:/{PIPELINE_RUN}/notes.txt"),
    }


@check
def models():
    made = client.create_registered_model("first", tags={"team": "a"}, description="what for")
    again = refused(lambda: client.create_registered_model("first"))
    client.set_registered_model_tag("first", "stage", "draft")
    client.set_registered_model_tag("first", "gone", "x")
    client.delete_registered_model_tag("first", "gone")
    client.update_registered_model("first", "for more")
    found = client.get_registered_model("first")
    client.rename_registered_model("first", "premier")
    renamed = client.get_registered_model("premier")
    odd = "größe ‘ok’ 模型 %25"
    client.create_registered_model(odd)
    client.create_model_version(odd, "s3://bucket/model")
    loaded_odd = client.get_model_version(odd, "1").name
    client.delete_registered_model("premier")
    return {
        "made": [made.name, made.description, made.tags],
        "again": again,
        "found": [found.description, found.tags, found.creation_timestamp <= found.last_updated_timestamp],
        "renamed": renamed.name,
        "gone": refused(lambda: client.get_registered_model("premier")),
        "odd": [client.get_registered_model(odd).name == odd, loaded_odd == odd],
        "slash": refused(lambda: client.create_registered_model("a/b")),
        "empty": refused(lambda: client.create_registered_model(" ")),
        "nul": refused(lambda: client.create_registered_model("a\x00b")),
        "dots": refused(lambda: client.create_registered_model("..")),
        "long_name": refused(lambda: client.create_registered_model("x" * 257)),
        "long_tag": refused(lambda: client.set_registered_model_tag(odd, "k", "v" * 100_001)),
        "bad_key": refused(lambda: client.set_registered_model_tag(odd, "a;b", "v")),
    }


@check
def versions():
    client.create_registered_model("many")
    run = run_id()
    for at in range(5):
        client.create_model_version("many", f"runs:/{run}/model", run, tags={"at": str(at)}, description=f"number {at}")
    client.update_model_version("many", "1", "told anew")
    client.set_model_version_tag("many", "1", "good", "yes")
    client.set_model_version_tag("many", "1", "gone", "x")
    client.delete_model_version_tag("many", "1", "gone")
    first = client.get_model_version("many", "1")
    client.delete_model_version("many", "5")
    pages = []
    token = None
    while True:
        page = client.search_model_versions("name = 'many'", max_results=2, order_by=["version_number ASC"], page_token=token)
        pages.append([int(version.version) for version in page])
        token = page.token
        if not token:
            break
    number = lambda text, **kw: [int(version.version) for version in client.search_model_versions(text, **kw)]
    return {
        "first": [first.description, first.tags, first.run_id == run],
        "pages": pages,
        "newest": number("name = 'many'"),
        "tagged": number("name = 'many' AND tags.at = '2'"),
        "numbered": number("name = 'many' AND version_number > 2", order_by=["version_number DESC"]),
        "of_run": len(client.search_model_versions(f"run_id = '{run}'")),
        "listed": number("name IN ('many', 'none')", order_by=["version_number ASC"]),
        "uri": client.get_model_version_download_uri("many", "1") == f"mlflow-artifacts:/0/{run}/artifacts/model",
        "gone": refused(lambda: client.get_model_version("many", "5")),
        "no_model": refused(lambda: client.create_model_version("none", f"runs:/{run}/model", run)),
        "no_number": refused(lambda: client.get_model_version("many", "one")),
        "sql": refused(lambda: client.search_model_versions("name = 'many'; drop table versions")),
        "or": refused(lambda: client.search_model_versions("name = 'many' OR name = 'x'")),
        "page": refused(lambda: client.search_model_versions("name = 'many'", page_token="nonsense")),
    }


@check
def sources():
    run = run_id()
    other = run_id()
    client.create_registered_model("sourced")
    make = lambda source, run_id=None: refused(lambda: client.create_model_version("sourced", source, run_id))[0]
    return {
        "local": make("/etc/passwd", run),
        "file": make("file:///etc", run),
        "upwards": make(f"mlflow-artifacts:/0/{run}/artifacts/../../x", run),
        "encoded": make(f"mlflow-artifacts:/0/{run}/artifacts/%2e%2e/x", run),
        "other_run": make(f"runs:/{other}/model", run),
        "other_folder": make(f"mlflow-artifacts:/0/{other}/artifacts/model", run),
        "no_run": make(f"runs:/{'0' * 32}/model"),
        "no_model": make(f"models:/m-{'0' * 32}"),
        "own_folder": make(f"mlflow-artifacts:/0/{run}/artifacts/model", run),
        "bucket": make("s3://bucket/model", run),
        "copied": refused(lambda: client.copy_model_version("models:/sourced/1", "copied"))[0],
        "copy_uri": client.get_model_version_download_uri("copied", "1") == client.get_model_version_download_uri("sourced", "1"),
    }


@check
def aliases():
    client.create_registered_model("aliased")
    for _ in range(2):
        client.create_model_version("aliased", "s3://bucket/model")
    client.set_registered_model_alias("aliased", "best", "1")
    client.set_registered_model_alias("aliased", "best", "2")
    client.set_registered_model_alias("aliased", "also", "2")
    best = client.get_model_version_by_alias("aliased", "best")
    client.delete_registered_model_alias("aliased", "also")
    client.delete_registered_model_alias("aliased", "also")
    return {
        "best": [int(best.version), sorted(best.aliases)],
        "left": {alias: int(version) for alias, version in client.get_registered_model("aliased").aliases.items()},
        "latest": int(client.get_model_version_by_alias("aliased", "latest").version),
        "gone": refused(lambda: client.get_model_version_by_alias("aliased", "also"))[0],
        "reserved": [refused(lambda: client.set_registered_model_alias("aliased", name, "1"))[0] for name in ["latest", "v1", "a b"]],
        "no_version": refused(lambda: client.set_registered_model_alias("aliased", "best", "9"))[0],
    }


@check
def stages():
    client.create_registered_model("staged")
    for _ in range(3):
        client.create_model_version("staged", "s3://bucket/model")
    client.transition_model_version_stage("staged", "1", "production")
    client.transition_model_version_stage("staged", "2", "Production", archive_existing_versions=True)
    latest = {version.current_stage: int(version.version) for version in client.get_latest_versions("staged")}
    return {
        "latest": latest,
        "production": [int(version.version) for version in client.get_latest_versions("staged", ["Production"])],
        "unknown": refused(lambda: client.transition_model_version_stage("staged", "1", "live")),
        "inactive": refused(lambda: client.transition_model_version_stage("staged", "1", "None", archive_existing_versions=True))[0],
    }


@check
def model_search():
    for name in ["s-a", "s-b", "s-c"]:
        client.create_registered_model(name, tags={"group": "s", "name": name})
    names = lambda page: [model.name for model in page]
    first = client.search_registered_models("tags.group = 's'", max_results=2)
    return {
        "first": names(first),
        "second": names(client.search_registered_models("tags.group = 's'", max_results=2, page_token=first.token)),
        "like": names(client.search_registered_models("name ILIKE 'S-%'", order_by=["name DESC"])),
        "not": names(client.search_registered_models("tags.group = 's' AND tags.name != 's-b'")),
        "bad": refused(lambda: client.search_registered_models("owner = 'x'"))[0],
        "order": refused(lambda: client.search_registered_models(order_by=["size DESC"]))[0],
        "much": refused(lambda: client.search_registered_models(max_results=1001))[0],
    }


@check
def one_name_for_many():
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(refused(lambda: client.create_registered_model("wanted"))[0])) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(answers)


@check
def files():
    run = run_id()
    with tempfile.TemporaryDirectory() as folder:
        os.makedirs(os.path.join(folder, "deep", "er"))
        for name, text in {"a.txt": "a", "deep/b.json": '{"x": 1}', "deep/er/ü %.bin": "b"}.items():
            with open(os.path.join(folder, name), "w") as file:
                file.write(text)
        client.log_artifacts(run, folder)
        client.log_artifacts(run, folder, "below")
    client.log_text(run, "words", "words/of.txt")
    client.log_dict(run, {"k": [1]}, "dict.json")
    listed = sorted([file.path, file.is_dir, file.file_size] for file in client.list_artifacts(run))
    deep = sorted(file.path for file in client.list_artifacts(run, "below/deep"))
    with tempfile.TemporaryDirectory() as folder:
        there = client.download_artifacts(run, "below", folder)
        read = {os.path.relpath(os.path.join(at, name), there): open(os.path.join(at, name)).read() for at, _, names in os.walk(there) for name in names}
    answer = mlflow.utils.rest_utils.http_request(
        mlflow.utils.credentials.get_default_host_creds(mlflow.get_tracking_uri()), "/api/2.0/mlflow/artifacts/list", "GET", params={"run_id": run, "path": "below"}
    ).json()
    client._tracking_client._get_artifact_repo(run).delete_artifacts("below")
    return {
        "listed": listed,
        "deep": deep,
        "read": read,
        "by_api": [answer["root_uri"] == f"mlflow-artifacts:/0/{run}/artifacts", sorted(file["path"] for file in answer["files"])],
        "words": mlflow.artifacts.load_text(f"runs:/{run}/words/of.txt"),
        "dict": mlflow.artifacts.load_dict(f"runs:/{run}/dict.json"),
        "after": sorted(file.path for file in client.list_artifacts(run)),
        "upwards": refused(lambda: client.list_artifacts(run, "../.."))[0],
        "missing": refused(lambda: mlflow.artifacts.load_text(f"runs:/{run}/none.txt"))[0],
    }


report()
