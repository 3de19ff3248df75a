import { ensurePythonEnvironment } from './python-environment.ts';

/** What a data scientist has beside MLflow's client: the trainer that is logged, the ONNX tools, and the driver for MLflow's own server on Postgres. */
const REQUIREMENTS = ['mlflow==3.17.2', 'scikit-learn==1.9.1', 'skl2onnx==1.20.0', 'onnxruntime==1.30.0', 'psycopg2-binary==2.9.13'];

/**
 * A Python interpreter with MLflow's client and server, pinned; made on the first call, which takes minutes.
 *
 * @throws MillraceError PROGRAM_MISSING when there is no `python3` with venv, or the packages cannot be installed.
 */
export function ensureMlflowPython(): Promise<string> {
  return ensurePythonEnvironment('mlflow', REQUIREMENTS);
}
