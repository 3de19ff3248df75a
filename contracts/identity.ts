import { z } from 'zod';

/**
 * Who acts, and what they may.
 *
 * - `viewer` reads.
 * - `editor` starts, pauses and cancels runs, logs and registers, labels.
 * - `approver` decides at gates.
 * - `operator` deploys, promotes, aborts, rolls back, silences, steers retraining.
 * - `admin` may everything, tokens included.
 *
 * Each role but `viewer` may read, too; beyond that none holds another.
 */
export const ROLES = ['viewer', 'editor', 'approver', 'operator', 'admin'] as const;
export type Role = (typeof ROLES)[number];

/** A pattern of names: of pipelines, models, endpoints and experiments. `*` stands for any text. */
export const ProjectPatternSchema = z
  .string()
  .max(200)
  .regex(/^[A-Za-z0-9._*-]+$/, 'must be letters, digits, dots, hyphens, underscores and *');

/** Someone who was recognised by a token, or anyone where no token is configured. */
export interface Identity {
  /** The name that stands in records. */
  readonly who: string;
  /** Null where nobody has to show a token. */
  readonly tokenId: string | null;
  readonly roles: readonly Role[];
  /** Patterns of the names that belong to the token's projects. */
  readonly projects: readonly string[];
}

/** Whether the identity may do what needs `role`. */
export function mayAct({ roles }: Pick<Identity, 'roles'>, role: Role): boolean {
  return roles.includes('admin') || roles.includes(role) || (role === 'viewer' && roles.length > 0);
}

/** Whether a name (of a pipeline, a model, an endpoint, an experiment) belongs to the identity's projects. */
export function coversName({ projects }: Pick<Identity, 'projects'>, name: string): boolean {
  return projects.some((pattern) => matches(pattern, name));
}

/** Whether every name does. */
export function coversAll({ projects }: Pick<Identity, 'projects'>): boolean {
  return projects.some((pattern) => /^\*+$/.test(pattern));
}

/** The patterns of the projects whose things the identity may see; undefined where it may see all. */
export function projectsOf(identity: Pick<Identity, 'projects'>): readonly string[] | undefined {
  return coversAll(identity) ? undefined : identity.projects;
}

/** Without a regular expression: a pattern of many stars must not take long. */
function matches(pattern: string, name: string): boolean {
  const [first = '', ...rest] = pattern.split('*');
  if (rest.length === 0) return pattern === name;
  if (!name.startsWith(first)) return false;
  let at = first.length;
  const last = rest.pop() ?? '';
  for (const part of rest) {
    const found = name.indexOf(part, at);
    if (found < 0) return false;
    at = found + part.length;
  }
  return name.length - last.length >= at && name.endsWith(last);
}

/** Actions that a Temporal update may ask for, each with the role that it needs. Who may decide is a matter of the gate, which is looked at when it records the decision. */
export const ACTION_ROLES = {
  approve: 'viewer',
  reject: 'viewer',
  revoke: 'viewer',
  pauseRun: 'editor',
  resumeRun: 'editor',
  rollout: 'operator',
  promote: 'operator',
  abort: 'operator',
  rollback: 'operator',
  configureRetraining: 'operator',
  pauseRetraining: 'operator',
  resumeRetraining: 'operator',
  closeExperiment: 'editor',
} as const satisfies Readonly<Record<string, Role>>;
export type VoucherAction = keyof typeof ACTION_ROLES;

/** What a voucher says. It is signed, and good for one message to one workflow. */
export const VoucherClaimsSchema = z.strictObject({
  nonce: z.string().min(16).max(64),
  action: z.enum(Object.keys(ACTION_ROLES) as [VoucherAction, ...VoucherAction[]]),
  workflowId: z.string().min(1).max(1_000),
  who: z.string().min(1).max(200),
  roles: z.array(z.enum(ROLES)),
  projects: z.array(z.string()),
  /** UTC ISO. */
  expiresAt: z.iso.datetime(),
});
export type VoucherClaims = z.infer<typeof VoucherClaimsSchema>;

/** A voucher as text: what an update's argument carries. Never a token: arguments stay in the history. */
export const VoucherSchema = z.string().min(1).max(4_000);

/** A message to a workflow, as it is looked at before it is obeyed. */
export interface SpendVoucherInput {
  readonly voucher?: string | undefined;
  readonly action: VoucherAction;
  readonly workflowId: string;
  /** Of the pipeline or endpoint that the workflow is of. */
  readonly name: string;
  /** The message: its repetition is no second use. */
  readonly spentBy: string;
  /** Who the message says that sends it; believed where no token is configured. */
  readonly by?: string | undefined;
  /** What the message asks for; stands in the log. */
  readonly request: unknown;
}

/** The token in an `Authorization` header: `Bearer TOKEN`, or the password of `Basic`, whose user name is free. */
export function tokenOfHeader(header: string | undefined): string | null {
  const [, scheme = '', value = ''] = /^(\w+) +(\S+) *$/.exec(header ?? '') ?? [];
  if (scheme.toLowerCase() === 'bearer') return value;
  if (scheme.toLowerCase() !== 'basic') return null;
  const [user = '', ...rest] = atob64(value).split(':');
  const password = rest.join(':');
  return (password === '' ? user : password) || null;
}

/** Text of base64; empty for what is not. */
function atob64(value: string): string {
  try {
    return atob(value);
  } catch {
    return '';
  }
}
