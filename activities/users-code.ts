import { MillraceError } from '../contracts/errors.ts';

/** Calls a person's code. What it throws is theirs to read: its message stays, its stack goes to the log. */
export async function usersCode<T>(step: string, work: () => T | Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof MillraceError) throw error;
    const message = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
    throw new MillraceError('USER_CODE_FAILED', `The step ${step} threw ${message}`, { cause: error });
  }
}
