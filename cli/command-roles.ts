import { AsyncLocalStorage } from 'node:async_hooks';
import type { Role } from '../contracts/identity.ts';

/** Commands that change something, each with the role that it needs where tokens are configured. All others need `viewer`. */
const COMMAND_ROLES: Readonly<Record<string, Role>> = {
  run: 'editor',
  stage: 'editor',
  'runs cancel': 'editor',
  'runs retry': 'editor',
  'runs reproduce': 'editor',
  'runs pause': 'editor',
  'runs resume': 'editor',
  'runs comment': 'editor',
  'models comment': 'editor',
  label: 'editor',
  'schedule create': 'editor',
  'schedule pause': 'editor',
  'schedule resume': 'editor',
  'schedule delete': 'editor',
  'schedule trigger': 'editor',
  'schedule backfill': 'editor',
  'retrainings experiment': 'editor',
  'datasets gc': 'operator',
  'approvals delegate': 'approver',
  'approvals undelegate': 'approver',
  'endpoints rollback': 'operator',
  'endpoints promote': 'operator',
  'endpoints abort': 'operator',
  'alerts ack': 'operator',
  'alerts silence': 'operator',
  'alerts unsilence': 'operator',
  'alerts test': 'operator',
  retrain: 'operator',
  'retrainings pause': 'operator',
  'retrainings resume': 'operator',
  'retrainings configure': 'operator',
  backup: 'admin',
  restore: 'admin',
  'import mlflow': 'admin',
  'import folder': 'admin',
  export: 'admin',
  'tokens create': 'admin',
  'tokens list': 'admin',
  'tokens revoke': 'admin',
};

const underWay = new AsyncLocalStorage<{ path: string }>();

/** Does the work of one command line; `name` says which command it is, once that is known. */
export function asCommandLine<T>(work: (name: (path: string) => void) => T): T {
  const command = { path: '' };
  return underWay.run(command, () =>
    work((path) => {
      command.path = path;
    }),
  );
}

/** What the command that is under way needs. */
export function roleNeeded(): Role {
  return COMMAND_ROLES[underWay.getStore()?.path ?? ''] ?? 'viewer';
}
