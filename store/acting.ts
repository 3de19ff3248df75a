import { AsyncLocalStorage } from 'node:async_hooks';

/** The name under which the store writes down what is done when its caller does not say one: of the request, or the command, that is under way. */
const acting = new AsyncLocalStorage<string>();

/** Does the work in the name of `who`, with whatever it awaits. */
export function actAs<T>(who: string, work: () => T): T {
  return acting.run(who, work);
}

/** In whose name this is done; `unknown` where nobody said. */
export function actingName(): string {
  return acting.getStore() ?? 'unknown';
}
