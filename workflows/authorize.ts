import { currentUpdateInfo, patched, proxyActivities, workflowInfo } from '@temporalio/workflow';
import type { IdentityActivities } from '../activities/types.ts';
import { MillraceError } from '../contracts/errors.ts';
import type { Role, VoucherAction } from '../contracts/identity.ts';
import { SERVICE_QUEUE } from '../contracts/queues.ts';
import { reportOf, toWorkflowFailure } from './failure.ts';

const activities = proxyActivities<IdentityActivities>({
  taskQueue: SERVICE_QUEUE,
  startToCloseTimeout: '1 minute',
  retry: { initialInterval: '300ms', maximumInterval: '10s' },
});

/** What every update may carry beside its own fields. */
export interface Signed {
  readonly by?: string | undefined;
  readonly voucher?: string | undefined;
}

/** In whose name an update is done. */
export interface Sender {
  readonly who: string;
  /** Of the token; undefined in a history from before there were tokens. */
  readonly roles?: readonly Role[];
}

/** Looks at one update; `name` is that of the pipeline or endpoint. */
export type Authorize = (action: VoucherAction, name: string, message: Signed | undefined) => Promise<Sender>;

/**
 * Makes what looks at a workflow's updates before they are obeyed: the voucher is spent and the log written by an activity,
 * because a validator cannot ask the store. Updates are looked at one after the other, so that they are obeyed in the order
 * in which they came.
 */
export function createAuthorize(): Authorize {
  let last: Promise<unknown> = Promise.resolve();
  return (action, name, message) => {
    if (!patched('identity')) return Promise.resolve({ who: message?.by ?? 'unknown' });
    const { workflowId, runId } = workflowInfo();
    const { voucher, ...request } = message ?? {};
    const input = {
      action,
      name,
      workflowId,
      spentBy: `${runId}/${currentUpdateInfo()?.id ?? ''}`,
      request,
      ...(voucher === undefined ? {} : { voucher }),
      ...(request.by === undefined ? {} : { by: request.by }),
    };
    const mine = last.then(() => activities.authorizeUpdate(input));
    last = mine.catch(() => undefined);
    return mine.catch((error: unknown) => {
      throw toWorkflowFailure(MillraceError.fromReport(reportOf(error)));
    });
  };
}
