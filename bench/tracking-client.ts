/**
 * What a client does, timed: one Python process with a client for each server, which takes turns at every repetition.
 * Arguments: the servers as JSON ({label: uri}), repetitions, calls of `log_metric`, runs. Prints {label: {figure: [ms]}}.
 */
export const TRACKING_CLIENT = `
import json, os, sys, time, uuid, warnings
warnings.filterwarnings("ignore")
os.environ["GIT_PYTHON_REFRESH"] = "quiet"
from mlflow.entities import Metric, Param
from mlflow.tracking import MlflowClient
servers, repetitions, calls, runs = json.loads(sys.argv[1]), *map(int, sys.argv[2:5])
now = 1_700_000_000_000
found = {label: {} for label in servers}

def note(label, figure, times, work):
    started = time.perf_counter()
    work()
    found[label].setdefault(figure, []).append((time.perf_counter() - started) * 1e3 / times)

def make(client, experiment):
    for i in range(runs):
        run = client.create_run(experiment, run_name=f"r{i}").info.run_id
        client.log_batch(run, metrics=[Metric(f"m{j}", i * j % 97, now, 0) for j in range(10)], params=[Param(f"p{j}", str(i % (j + 2))) for j in range(10)])
        client.set_terminated(run)

clients = {label: MlflowClient(uri) for label, uri in servers.items()}
logged = {}
for label, client in clients.items():
    logged[label] = client.create_run(client.create_experiment("warm-" + uuid.uuid4().hex)).info.run_id
    for i in range(50):
        client.log_metric(logged[label], "warm", i, now, i)
for k in range(repetitions):
    for label, client in clients.items():
        run = logged[label]
        note(label, "log_metric", calls, lambda: [client.log_metric(run, f"a{k}", i, now + i, i) for i in range(calls)])
        for j in range(5):
            note(label, "log_batch_steps", 1, lambda: client.log_batch(run, metrics=[Metric(f"b{k}_{j}", i, now + i, i) for i in range(1000)]))
            note(label, "log_batch_keys", 1, lambda: client.log_batch(run, metrics=[Metric(f"c{k}_{j}_{i}", i, now, 0) for i in range(1000)]))
        experiment = client.create_experiment("runs-" + uuid.uuid4().hex)
        note(label, "create_runs", runs, lambda: make(client, experiment))
        for i in range(15):
            note(label, "search_runs", 1, lambda: client.search_runs([experiment], max_results=200))
            note(label, "search_filtered", 1, lambda: client.search_runs([experiment], "metrics.m3 > 40 and params.p2 = '1'", order_by=["metrics.m5 DESC"], max_results=200))
print(json.dumps(found))
`;
