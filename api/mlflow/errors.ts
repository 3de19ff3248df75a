import { ERRORS, type MillraceError } from '../../contracts/errors.ts';

/**
 * MLflow's errors: what its Python client turns into an `MlflowException` with the same `error_code`.
 * The codes and statuses are those that MLflow's own server answers with.
 */
export const MLFLOW_ERRORS = {
  INVALID_PARAMETER_VALUE: 400,
  BAD_REQUEST: 400,
  RESOURCE_ALREADY_EXISTS: 400,
  UNAUTHENTICATED: 401,
  PERMISSION_DENIED: 403,
  RESOURCE_DOES_NOT_EXIST: 404,
  ENDPOINT_NOT_FOUND: 404,
  RESOURCE_CONFLICT: 409,
  RESOURCE_EXHAUSTED: 429,
  INVALID_STATE: 500,
  INTERNAL_ERROR: 500,
  NOT_IMPLEMENTED: 501,
  TEMPORARILY_UNAVAILABLE: 503,
} as const;
export type MlflowErrorCode = keyof typeof MLFLOW_ERRORS;

/** A refusal in MLflow's own words, thrown by an operation. */
export class MlflowError extends Error {
  readonly code: MlflowErrorCode;
  constructor(code: MlflowErrorCode, message: string) {
    super(message);
    this.name = 'MlflowError';
    this.code = code;
  }
}

/** The codes of Millrace's table that have a better name in MLflow than the one of their HTTP status. */
const BY_CODE: Partial<Record<keyof typeof ERRORS, MlflowErrorCode>> = {
  CONFLICT: 'RESOURCE_ALREADY_EXISTS',
  DATABASE_UNAVAILABLE: 'TEMPORARILY_UNAVAILABLE',
};
const BY_STATUS: Readonly<Record<number, MlflowErrorCode>> = {
  400: 'INVALID_PARAMETER_VALUE',
  401: 'UNAUTHENTICATED',
  403: 'PERMISSION_DENIED',
  404: 'RESOURCE_DOES_NOT_EXIST',
  409: 'RESOURCE_CONFLICT',
  413: 'INVALID_PARAMETER_VALUE',
  422: 'INVALID_PARAMETER_VALUE',
  429: 'RESOURCE_EXHAUSTED',
  503: 'TEMPORARILY_UNAVAILABLE',
};

/** A failure of the store or of Fastify, as MLflow would say it: message, then each problem, then the fix. */
export function toMlflowError(error: MlflowError | MillraceError): MlflowError {
  if (error instanceof MlflowError) return error;
  const problems = error.problems.map((problem) => `${problem.path} ${problem.message}${problem.found === undefined ? '' : ` (found: ${problem.found})`}`);
  const text = [error.message, ...(problems.length === 0 ? [] : [problems.join('; ')])].join(' ');
  return new MlflowError(BY_CODE[error.code] ?? BY_STATUS[ERRORS[error.code].http] ?? 'INTERNAL_ERROR', text);
}
