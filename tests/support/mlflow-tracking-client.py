"""What MLflow's own client does and sees, told as JSON: one process, many checks. Arguments: the run id of a pipeline's run, the example of the page."""

import contextlib
import io
import math
import sys
import threading
import time

# first: it says what MLflow's import looks at
from mlflow_checks import check, client, refused, report  # isort: skip

import mlflow
from mlflow.entities import LoggedModelStatus, Metric, Param, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

PIPELINE_RUN, EXAMPLE = sys.argv[1], sys.argv[2]


def plain(value):
    """A double as JSON can hold it."""
    return value if math.isfinite(value) else str(value)


def names(runs):
    return [run.info.run_name for run in runs]


@check
def experiments():
    default = client.get_experiment("0")
    made = client.create_experiment("first", tags={"team": "ml"})
    found = client.get_experiment_by_name("first")
    again = refused(lambda: client.create_experiment("first"))
    client.set_experiment_tag(made, "stage", "draft")
    client.rename_experiment(made, "premier")
    client.set_experiment_tag(made, "gone", "x")
    client.delete_experiment_tag(made, "gone")
    renamed = client.get_experiment(made)
    client.delete_experiment(made)
    deleted = client.get_experiment(made)
    taken = refused(lambda: client.create_experiment("premier"))
    into = refused(lambda: client.create_run(made))
    client.restore_experiment(made)
    return {
        "default": [default.experiment_id, default.name],
        "location": found.artifact_location == f"mlflow-artifacts:/{made}",
        "tags": dict(renamed.tags),
        "name": renamed.name,
        "created": found.creation_time > 1.7e12,
        "again": again,
        "deleted": deleted.lifecycle_stage,
        "taken": taken,
        "into": into,
        "restored": client.get_experiment(made).lifecycle_stage,
        "missing": refused(lambda: client.get_experiment("123456")),
        "none_of_that_name": client.get_experiment_by_name("nobody"),
        "empty_name": refused(lambda: client.create_experiment(" ")),
        "odd_names": [client.get_experiment(client.create_experiment(name)).name == name for name in ["ünï ⚙ 実験", "tab\there\nline", "'; drop table runs; --"]],
        "nul": refused(lambda: client.create_experiment("a\u0000b")),
        "default_stays": refused(lambda: client.delete_experiment("0")),
    }


@check
def experiment_search():
    for name, tag in [("s-a", "1"), ("s-b", "2"), ("s-c", "2")]:
        client.create_experiment(name, tags={"group": tag})
    page = client.search_experiments(filter_string="name LIKE 's-%'", order_by=["name ASC"], max_results=2)
    rest = client.search_experiments(filter_string="name LIKE 's-%'", order_by=["name ASC"], max_results=2, page_token=page.token)
    return {
        "pages": [[e.name for e in page], [e.name for e in rest], rest.token],
        "tag": sorted(e.name for e in client.search_experiments(filter_string="tags.group = '2' AND creation_time > 0")),
        "newest_first": [e.name for e in client.search_experiments(filter_string="name ILIKE 'S-_'")],
        "id": [e.name for e in client.search_experiments(filter_string="experiment_id IN ('0')")],
        "bad": refused(lambda: client.search_experiments(filter_string="metrics.a > 1")),
        "deleted": [e.name for e in client.search_experiments(view_type=ViewType.DELETED_ONLY)],
    }


@check
def one_name_for_two():
    made, errors = [], []

    def create():
        try:
            made.append(MlflowClient().create_experiment("raced"))
        except MlflowException as error:
            errors.append(error.error_code)

    threads = [threading.Thread(target=create) for _ in range(6)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    return [len(made), errors]


@check
def runs():
    experiment = client.create_experiment("runs")
    run = client.create_run(experiment, tags={"mlflow.user": "ann", "k": "v"}, run_name="one", start_time=1_700_000_000_123)
    run_id = run.info.run_id
    unnamed = client.create_run(experiment)
    client.log_param(run_id, "depth", 3)
    client.log_param(run_id, "depth", 3)
    changed = refused(lambda: client.log_param(run_id, "depth", 4))
    client.set_tag(run_id, "k", "w")
    client.set_tag(run_id, "gone", "x")
    client.delete_tag(run_id, "gone")
    client.set_tag(run_id, "mlflow.runName", "renamed")
    client.set_terminated(run_id, status="KILLED", end_time=1_700_000_001_000)
    done = client.get_run(run_id)
    client.update_run(run_id, status="RUNNING", name="again")
    resumed = client.get_run(run_id)
    client.delete_run(run_id)
    deleted = client.get_run(run_id).info.lifecycle_stage
    late = refused(lambda: client.log_metric(run_id, "m", 1))
    hidden = names(client.search_runs([experiment]))
    client.restore_run(run_id)
    return {
        "id": len(run_id) == 32,
        "named": len(unnamed.info.run_name.split("-")) == 3 and unnamed.data.tags["mlflow.runName"] == unnamed.info.run_name,
        "start": done.info.start_time,
        "end": done.info.end_time,
        "status": done.info.status,
        "name": done.info.run_name,
        "user": done.info.user_id,
        "tags": dict(done.data.tags),
        "params": dict(done.data.params),
        "uri": done.info.artifact_uri == f"mlflow-artifacts:/{experiment}/{run_id}/artifacts",
        "changed": changed,
        "resumed": [resumed.info.status, resumed.info.end_time, resumed.info.run_name],
        "deleted": deleted,
        "late": late,
        "hidden": len(hidden),
        "restored": len(client.search_runs([experiment])),
        "missing": refused(lambda: client.get_run("0" * 32)),
        "missing_tag": refused(lambda: client.delete_tag(run_id, "never")),
    }


@check
def metrics():
    run_id = client.create_run("0").info.run_id
    now = 1_700_000_000_000
    for step, value in [(0, 1.0), (5, 2.0), (3, 9.0)]:
        client.log_metric(run_id, "m", value, timestamp=now + step, step=step)
    client.log_metric(run_id, "m", 2.0, timestamp=now + 5, step=5)
    for key, value in [("nan", math.nan), ("inf", math.inf), ("ninf", -math.inf), ("tiny", 5e-324), ("huge", 1.7976931348623157e308), ("neg", -1.5)]:
        client.log_metric(run_id, key, value)
    client.log_metric(run_id, "tie", 1.0, timestamp=now, step=1)
    client.log_metric(run_id, "tie", 3.0, timestamp=now, step=1)
    client.log_metric(run_id, "tie", 2.0, timestamp=now, step=1)
    client.log_metric(run_id, "back", 1.0, timestamp=now, step=-3)
    history = client.get_metric_history(run_id, "m")
    return {
        "latest": {key: plain(value) for key, value in client.get_run(run_id).data.metrics.items()},
        "history": [[point.step, point.value, point.timestamp - now] for point in history],
        "nan_history": [str(point.value) for point in client.get_metric_history(run_id, "nan")],
        "none": client.get_metric_history(run_id, "never"),
        "no_run": refused(lambda: client.get_metric_history("f" * 32, "m")),
        "bad_key": refused(lambda: client.log_metric(run_id, "a//b", 1)),
        "bad_time": refused(lambda: client.log_metric(run_id, "a", 1, timestamp=10**18)),
        "no_run_to_log": refused(lambda: client.log_metric("f" * 32, "m", 1)),
    }


@check
def batches():
    run_id = client.create_run("0").info.run_id
    client.log_batch(
        run_id,
        metrics=[Metric(f"b{i % 10}", i, 1_700_000_000_000 + i, i) for i in range(800)],
        params=[Param(f"p{i}", "v" * 100) for i in range(100)],
        tags=[RunTag(f"t{i}", "w") for i in range(100)],
    )
    run = client.get_run(run_id).data
    # Straight to the store: the client would split what is too much.
    store = client._tracking_client.store
    too_many = refused(lambda: store.log_batch(run_id, [Metric("x", i, 1, i) for i in range(1001)], [], []))
    half = refused(lambda: store.log_batch(run_id, [Metric("half", 1, 1, 1)], [Param("p0", "other")], [RunTag("half", "1")]))
    after = client.get_run(run_id).data
    return {
        "counts": [len(run.metrics), len(run.params), len(run.tags)],
        "latest": run.metrics["b9"],
        "too_many": too_many,
        "twice": refused(lambda: store.log_batch(run_id, [], [Param("q", "1"), Param("q", "2")], [])),
        "half": half,
        "nothing_half_written": ["half" in after.metrics, "half" in after.tags],
        "long": refused(lambda: store.log_param(run_id, Param("long", "x" * 6001))),
        "longest": client.log_param(run_id, "long", "ü" * 6000) is not None,
        "odd": refused(lambda: store.log_param(run_id, Param("a$b", "1"))),
        "nul": refused(lambda: store.log_param(run_id, Param("nul", "a\u0000b"))),
    }


@check
def run_search():
    experiment = client.create_experiment("search")
    for i in range(6):
        run_id = client.create_run(experiment, run_name=f"r{i}", start_time=1_700_000_000_000 + i * 1000).info.run_id
        client.log_batch(run_id, params=[Param("odd", str(i % 2 == 1)), Param("lr rate", f"{i / 10}")], tags=[RunTag("a.b", f"T{i}")])
        if i != 2:
            client.log_batch(run_id, metrics=[Metric("auc", math.nan if i == 3 else i / 10, 1, 0), Metric("val loss", 1 - i / 10, 1, 0)])
        if i == 4:
            client.set_terminated(run_id)
        if i == 5:
            client.set_tag(run_id, "only", "here")
    ids = {run.info.run_name: run.info.run_id for run in client.search_runs([experiment])}

    def search(filter_string="", order_by=(), **more):
        return names(client.search_runs([experiment], filter_string, order_by=list(order_by), **more))

    first = client.search_runs([experiment], order_by=["metrics.auc DESC"], max_results=4)
    second = client.search_runs([experiment], order_by=["metrics.auc DESC"], max_results=4, page_token=first.token)
    return {
        "newest_first": search(),
        "metric": search("metrics.auc > 0.05 AND metrics.auc <= 0.4"),
        "not_equal": search("metrics.auc != 0.5"),
        "quoted_metric": search('metrics."val loss" < 0.65'),
        "param": search("params.odd = 'True'", ["params.`lr rate` ASC"]),
        "like": search("tags.a.b ILIKE 't%' AND tags.`a.b` LIKE '%5'"),
        "null": search("tags.only IS NULL AND params.odd IS NOT NULL", ["attributes.run_name"]),
        "status": [search("status = 'FINISHED'"), len(search("attributes.status != 'FINISHED'"))],
        "time": search("start_time >= 1700000003000 and start_time < 1700000005000"),
        "ids": search(f"run_id IN ('{ids['r1']}', '{ids['r4']}')", ["created ASC"]),
        "not_ids": len(search(f"attributes.run_id NOT IN ('{ids['r1']}')")),
        "name": search("attributes.`Run name` = 'r0'"),
        "by_metric": search(order_by=["metrics.auc DESC"]),
        "by_metric_up": search(order_by=["metrics.auc ASC"]),
        "by_two": search(order_by=["params.odd DESC", "metrics.`val loss` ASC"]),
        "pages": [names(first), names(second), second.token],
        "injected": search("params.odd = 'x'' OR 1=1 --'"),
        "still_there": len(search("tags.`x'; drop table runs; --` IS NULL")),
        "bad": refused(lambda: search("metrics.auc > 'a'")),
        "bad_or": refused(lambda: search("metrics.auc > 1 OR metrics.auc < 0")),
        "bad_page": refused(lambda: client.search_runs([experiment], page_token="nonsense")),
        "bad_order": refused(lambda: search(order_by=["metrics.auc DESC", "metrics.auc"])),
        "too_many": refused(lambda: client.search_runs([experiment], max_results=60000)),
        "elsewhere": names(client.search_runs(["99999"])),
        "frame": sorted(c for c in mlflow.search_runs([experiment]).columns if c.startswith(("metrics.", "params.", "tags.a"))),
    }


@check
def inputs_and_outputs():
    import mlflow.data
    import pandas

    frame = pandas.DataFrame({"x": [1, 2, 3], "y": [0, 1, 0]})
    experiment = client.create_experiment("inputs")
    with mlflow.start_run(experiment_id=experiment, run_name="with data") as run:
        mlflow.log_input(mlflow.data.from_pandas(frame, name="flights", targets="y"), context="training")
        mlflow.log_input(mlflow.data.from_pandas(frame, name="flights", targets="y"), context="training")
        model = mlflow.create_external_model(name="outside", params={"a": "1"}, tags={"kind": "test"}, model_type="classifier")
        mlflow.log_metric("auc", 0.9, model_id=model.model_id)
        mlflow.log_outputs(models=[mlflow.entities.LoggedModelOutput(model.model_id, step=2)])
    read = client.get_run(run.info.run_id)
    [dataset] = read.inputs.dataset_inputs
    by_dataset = names(client.search_runs([experiment], "dataset.name = 'flights' AND datasets.context = 'training'"))
    finalized = mlflow.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    mlflow.set_logged_model_tags(model.model_id, {"more": "tags", "less": "tags"})
    mlflow.delete_logged_model_tag(model.model_id, "less")
    mlflow.log_model_params({"b": "2"}, model_id=model.model_id)
    seen = mlflow.get_logged_model(model.model_id)
    found = mlflow.search_logged_models([experiment], filter_string="metrics.auc > 0.5 AND params.a = '1' AND name = 'outside'", order_by=[{"field_name": "metrics.auc", "ascending": False}], output_format="list")
    other = client.create_logged_model(experiment, name="second")
    client.delete_logged_model(other.model_id)
    return {
        "status": read.info.status,
        "dataset": [dataset.dataset.name, dataset.dataset.source_type, {tag.key: tag.value for tag in dataset.tags}, bool(dataset.dataset.schema), bool(dataset.dataset.profile)],
        "by_dataset": by_dataset,
        "outputs": [[output.model_id == model.model_id, output.step] for output in read.outputs.model_outputs],
        "model": [seen.name, seen.params, {k: v for k, v in seen.tags.items() if not k.startswith("mlflow.")}, seen.model_type, str(finalized.status), [[m.key, m.value] for m in seen.metrics]],
        "location": seen.artifact_location == f"mlflow-artifacts:/{experiment}/models/{model.model_id}/artifacts",
        "found": [one.name for one in found],
        "deleted": refused(lambda: client.get_logged_model(other.model_id)),
        "changed": refused(lambda: mlflow.log_model_params({"a": "9"}, model_id=model.model_id)),
        "bad": refused(lambda: mlflow.search_logged_models([experiment], filter_string="metrics.auc LIKE 'x'")),
        "slash": refused(lambda: client.create_logged_model(experiment, name="a/b")),
    }


@check
def pipeline_run():
    run = client.get_run(PIPELINE_RUN)
    experiment = client.get_experiment(run.info.experiment_id)
    with mlflow.start_run(run_id=PIPELINE_RUN):
        mlflow.log_metric("custom", 7)
    after = client.get_run(PIPELINE_RUN)
    return {
        "experiment": [experiment.name, experiment.tags.get("millrace.pipeline")],
        "status": run.info.status,
        "name": run.info.run_name,
        "user": run.info.user_id,
        "params": dict(run.data.params),
        "metrics": dict(run.data.metrics),
        "history": [point.value for point in client.get_metric_history(PIPELINE_RUN, "train/loss")],
        "tags": {key: run.data.tags.get(key) for key in ["mlflow.source.name", "mlflow.source.type", "millrace.workflowId"]},
        "found": names(client.search_runs([experiment.experiment_id], "metrics.`evaluate/auc` > 0.5 AND params.`train/trainer.trees` = '200'", order_by=["metrics.`evaluate/auc` DESC"])),
        "after": [after.info.status, after.data.metrics["custom"]],
        "delete": refused(lambda: client.delete_run(PIPELINE_RUN)),
        "delete_experiment": refused(lambda: client.delete_experiment(experiment.experiment_id)),
    }


@check
def left_out():
    return {
        "traces": refused(lambda: client.search_traces(locations=["0"])),
        "prompts": refused(lambda: client._tracking_client.store.list_scorers("0")),
    }


@check
def sampled():
    run_id = client.create_run("0").info.run_id
    client.log_batch(run_id, metrics=[Metric("long", i, 1_700_000_000_000 + i, i) for i in range(1000)])
    from mlflow.utils.rest_utils import http_request

    host = client._tracking_client.store.get_host_creds()

    def bulk(path, **params):
        return http_request(host, f"/api/2.0/mlflow/metrics/{path}", "GET", params=params).json()["metrics"]

    interval = bulk("get-history-bulk-interval", run_ids=[run_id], metric_key="long", max_results=10)
    part = bulk("get-history-bulk-interval", run_ids=[run_id], metric_key="long", max_results=5, start_step=100, end_step=200)
    return {
        "interval": [len(interval), interval[0]["step"], interval[-1]["step"], interval[0]["run_id"] == run_id],
        "part": [len(part), part[0]["step"], part[-1]["step"]],
        "bulk": len(bulk("get-history-bulk", run_id=[run_id], metric_key="long")),
    }


# last: it leaves another experiment as the current one
@check
def example_of_the_page():
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(EXAMPLE, {})
    return {"printed": printed.getvalue()}


report()
