import { createHash, createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { and, desc, eq, isNull, lt, sql } from 'drizzle-orm';
import { canonicalJson } from '../contracts/canonical-json.ts';
import { MillraceError } from '../contracts/errors.ts';
import {
  ACTION_ROLES,
  coversName,
  type Identity,
  mayAct,
  ProjectPatternSchema,
  ROLES,
  type Role,
  type SpendVoucherInput,
  type VoucherAction,
  type VoucherClaims,
  VoucherClaimsSchema,
} from '../contracts/identity.ts';
import { writeAudit } from './audit.ts';
import { type Database, type Executor, onlyRow, storable } from './database.ts';
import { accessTokens, signingKeys, spentVouchers } from './schema.ts';

/**
 * Tokens, and the vouchers that stand for them in messages to workflows.
 *
 * Invariants:
 * 1. A token is shown once, when it is made; what is kept is its SHA-256, which 256 random bits need no salt for.
 * 2. Once a token was made, tokens are needed for good: that one expires or is revoked opens nothing.
 * 3. A voucher is good for one message: what it says is signed, and its nonce is spent in the transaction that looks at it.
 *    The same message again (an activity that is repeated) is no second use.
 */
type TokenRecord = typeof accessTokens.$inferSelect;
/** Without its hash. */
export type ShownToken = Omit<TokenRecord, 'hash'>;

/** A token that is good now, as a `TokenBook` holds it. */
export interface LiveToken {
  readonly hash: string;
  readonly identity: Identity;
  /** UTC ISO; null for one that does not expire. */
  readonly expiresAt: string | null;
}

export interface CreateTokenInput {
  readonly who: string;
  readonly roles: readonly Role[];
  /** Patterns of names of pipelines, models, endpoints and experiments. Default: every name. */
  readonly projects?: readonly string[];
  /** UTC ISO; null: it does not expire. */
  readonly expiresAt: string | null;
  readonly by: string;
}

const VOUCHER_LIFE_MS = 5 * 60_000;
const VOUCHER_KEY = 'vouchers';
/** A program that trains may take long; its token is revoked when it ends. */
const LENT_MS = 24 * 3_600_000;
const newToken = (): string => `mlr_${randomBytes(32).toString('base64url')}`;
const newTokenId = (): string => randomBytes(4).toString('hex');
/** The token of MILLRACE_ADMIN_TOKEN. */
const PROVISIONED = 'MILLRACE_ADMIN_TOKEN';
const UNTIL_REVOKED = sql`revoked_at is null and (expires_at is null or expires_at > now())`;

/** What is kept of a token. */
export function hashToken(token: string): string {
  return createHash('sha256').update(token).digest('hex');
}

const identityOf = ({ id, who, roles, projects }: TokenRecord): Identity => ({ who, tokenId: id, roles, projects });
const shown = ({ hash: _hash, ...rest }: TokenRecord): ShownToken => rest;

const refused = (why: string): MillraceError => new MillraceError('VOUCHER_REFUSED', `The voucher is not good: ${why}.`);

export function createTokensStore({ orm }: Database) {
  const configured = async (tx: Executor): Promise<boolean> =>
    onlyRow((await tx.execute<{ there: boolean }>(sql`select exists (select 1 from access_tokens) as there`)).rows).there;

  const signingKey = async (tx: Executor): Promise<Buffer> => {
    await tx
      .insert(signingKeys)
      .values({ name: VOUCHER_KEY, secret: randomBytes(32).toString('hex') })
      .onConflictDoNothing();
    return Buffer.from(onlyRow(await tx.select().from(signingKeys).where(eq(signingKeys.name, VOUCHER_KEY))).secret, 'hex');
  };
  const sign = (key: Buffer, text: string): Buffer => createHmac('sha256', key).update(text).digest();

  const readVoucher = async (tx: Executor, voucher: string): Promise<VoucherClaims> => {
    const [body = '', signature = ''] = voucher.split('.');
    const expected = sign(await signingKey(tx), body);
    const given = Buffer.from(signature, 'base64url');
    if (given.length !== expected.length || !timingSafeEqual(given, expected)) throw refused('its signature does not fit');
    const parsed = VoucherClaimsSchema.safeParse(JSON.parse(Buffer.from(body, 'base64url').toString('utf8')));
    if (!parsed.success) throw refused('it is of another version of Millrace');
    return parsed.data;
  };

  return {
    /**
     * Makes a token; the answer holds its text, which nobody can be told again.
     * @throws INVALID_REQUEST, also for a first token that is not an admin's: nobody could make a second one
     */
    async create({ who, roles, projects = ['*'], expiresAt, by }: CreateTokenInput): Promise<{ readonly token: string; readonly record: ShownToken }> {
      const problems = [
        ...(roles.length === 0 ? [{ path: 'roles', message: 'are missing', fix: `Give one or more of ${ROLES.join(', ')}.` }] : []),
        ...projects.flatMap((pattern) => {
          const read = ProjectPatternSchema.safeParse(pattern);
          return read.success ? [] : [{ path: 'projects', message: read.error.issues[0]?.message ?? 'does not fit', found: pattern }];
        }),
        ...(expiresAt !== null && Date.parse(expiresAt) <= Date.now() ? [{ path: 'expires', message: 'is not after now', found: expiresAt }] : []),
      ];
      if (problems.length > 0) throw new MillraceError('INVALID_REQUEST', 'The token does not fit.', { problems });
      const token = newToken();
      return orm.transaction(async (tx) => {
        if (!roles.includes('admin') && !(await configured(tx)))
          throw new MillraceError('INVALID_REQUEST', 'The first token must be an admin’s: without one nobody could make or revoke tokens.', {
            problems: [{ path: 'roles', message: 'have no admin', found: roles.join(', ') }],
            fix: 'Make one with the role admin first.',
          });
        const values = {
          id: newTokenId(),
          hash: hashToken(token),
          who: storable(who),
          roles: [...new Set(roles)],
          projects: [...new Set(projects)],
          createdBy: storable(by),
          expiresAt,
        };
        const record = onlyRow(await tx.insert(accessTokens).values(values).returning());
        await writeAudit(tx, {
          action: 'token.create',
          subject: `tokens/${record.id}`,
          who: by,
          details: { of: record.who, roles: record.roles, projects: record.projects, expiresAt },
        });
        return { token, record: shown(record) };
      });
    },

    /** An editor's token for a program that a run starts, good for a day; null while nobody has to show one. */
    async lend({ runId }: { readonly runId: string }): Promise<{ readonly token: string; readonly id: string } | null> {
      if (!(await configured(orm))) return null;
      const token = newToken();
      const who = `run ${runId}`;
      return orm.transaction(async (tx) => {
        const id = newTokenId();
        const expiresAt = new Date(Date.now() + LENT_MS).toISOString();
        await tx.insert(accessTokens).values({ id, hash: hashToken(token), who, roles: ['editor'], projects: ['*'], createdBy: who, expiresAt });
        await writeAudit(tx, { action: 'token.create', subject: `tokens/${id}`, who, details: { of: who, roles: ['editor'], projects: ['*'], expiresAt } });
        return { token, id };
      });
    },

    /** Makes MILLRACE_ADMIN_TOKEN an admin's token. One of another text that the variable held before is revoked; a revoked one stays so. */
    async provisionAdmin(token: string): Promise<void> {
      const hash = hashToken(token);
      await orm.transaction(async (tx) => {
        await tx.execute(sql`select pg_advisory_xact_lock(hashtextextended('millrace tokens', 0))`);
        const before = await tx
          .update(accessTokens)
          .set({ revokedAt: sql`now()`, revokedBy: PROVISIONED })
          .where(and(eq(accessTokens.createdBy, PROVISIONED), isNull(accessTokens.revokedAt), sql`hash <> ${hash}`))
          .returning({ id: accessTokens.id });
        const made = await tx
          .insert(accessTokens)
          .values({ id: newTokenId(), hash, who: 'admin', roles: ['admin'], projects: ['*'], createdBy: PROVISIONED, expiresAt: null })
          .onConflictDoNothing({ target: accessTokens.hash })
          .returning({ id: accessTokens.id });
        for (const { id } of before)
          await writeAudit(tx, { action: 'token.revoke', subject: `tokens/${id}`, who: PROVISIONED, details: { because: 'the variable has another text' } });
        for (const { id } of made)
          await writeAudit(tx, {
            action: 'token.create',
            subject: `tokens/${id}`,
            who: PROVISIONED,
            details: { of: 'admin', roles: ['admin'], projects: ['*'] },
          });
      });
    },

    /** Takes a token back; again it changes nothing. @throws NOT_FOUND */
    async revoke({ id, by }: { readonly id: string; readonly by: string }): Promise<ShownToken> {
      return orm.transaction(async (tx) => {
        const [now] = await tx.select().from(accessTokens).where(eq(accessTokens.id, id)).for('update');
        if (now === undefined) throw new MillraceError('NOT_FOUND', `There is no token ${id}.`, { fix: '`millrace tokens list --all` shows them.' });
        if (now.revokedAt !== null) return shown(now);
        const [row] = await tx
          .update(accessTokens)
          .set({ revokedAt: sql`now()`, revokedBy: storable(by) })
          .where(eq(accessTokens.id, id))
          .returning();
        await writeAudit(tx, { action: 'token.revoke', subject: `tokens/${id}`, who: by, details: { of: now.who } });
        return shown(row ?? now);
      });
    },

    /** Newest first; those that are good now, or with `all` the others too. At most 1,000. */
    async list({ all = false }: { readonly all?: boolean } = {}): Promise<readonly ShownToken[]> {
      const rows = await orm
        .select()
        .from(accessTokens)
        .where(all ? undefined : UNTIL_REVOKED)
        .orderBy(desc(accessTokens.createdAt), desc(accessTokens.id))
        .limit(1_000);
      return rows.map(shown);
    },

    /** Whether tokens are needed, and those that are good now. */
    async live(): Promise<{ readonly needed: boolean; readonly tokens: readonly LiveToken[] }> {
      const tokens = await orm.select().from(accessTokens).where(UNTIL_REVOKED);
      return {
        needed: tokens.length > 0 || (await configured(orm)),
        tokens: tokens.map((row) => ({ hash: row.hash, identity: identityOf(row), expiresAt: row.expiresAt })),
      };
    },

    /** Who a token stands for; null for one that is unknown, expired or revoked. `needed` is false while nobody has to show one. */
    async identify(token: string | undefined): Promise<{ readonly needed: boolean; readonly identity: Identity | null }> {
      const [row] =
        token === undefined
          ? []
          : await orm
              .select()
              .from(accessTokens)
              .where(and(eq(accessTokens.hash, hashToken(token)), UNTIL_REVOKED));
      return { needed: row !== undefined || (await configured(orm)), identity: row === undefined ? null : identityOf(row) };
    },

    /**
     * A voucher for one message to one workflow, good for five minutes.
     * @throws NOT_ALLOWED when the identity may not, or the name is not of its projects
     */
    async issueVoucher({
      identity,
      action,
      workflowId,
      name,
    }: {
      readonly identity: Pick<Identity, 'who' | 'roles' | 'projects'>;
      readonly action: VoucherAction;
      readonly workflowId: string;
      readonly name: string;
    }): Promise<string> {
      requireMay(identity, ACTION_ROLES[action], name);
      const claims: VoucherClaims = {
        nonce: randomBytes(16).toString('base64url'),
        action,
        workflowId,
        who: identity.who,
        roles: [...identity.roles],
        projects: [...identity.projects],
        expiresAt: new Date(Date.now() + VOUCHER_LIFE_MS).toISOString(),
      };
      const body = Buffer.from(canonicalJson(claims)).toString('base64url');
      return `${body}.${sign(await signingKey(orm), body).toString('base64url')}`;
    },

    /**
     * Looks at what a message to a workflow carries, spends its voucher, and writes the log.
     * @returns Whose message it is: the voucher's, or where no token is configured whoever it says.
     * @throws TOKEN_NEEDED without a voucher where one is needed, VOUCHER_REFUSED for one that is not good (any more), NOT_ALLOWED
     */
    async spendVoucher(input: SpendVoucherInput): Promise<Pick<Identity, 'who' | 'roles'>> {
      const { action, workflowId, name, spentBy, request } = input;
      const subject = subjectOf(workflowId);
      return orm.transaction(async (tx) => {
        // an attempt that does not know that it succeeded
        const { rows: before } = await tx.execute<{ who: string }>(
          sql`select who from audit_log where subject = ${subject} and action = ${`update.${action}`} and details @> ${JSON.stringify({ message: spentBy })}::jsonb limit 1`,
        );
        let sender: Pick<Identity, 'who' | 'roles' | 'projects'> = { who: input.by ?? 'unknown', roles: ['admin'], projects: ['*'] };
        if (await configured(tx)) {
          if (input.voucher === undefined)
            throw new MillraceError('TOKEN_NEEDED', `The message ${action} to ${workflowId} has no voucher, and tokens are configured.`, {
              fix: 'Send it with `millrace`, with MILLRACE_TOKEN set; or ask the API for a voucher (POST /api/v1/vouchers) and give it as `voucher`.',
            });
          const claims = await readVoucher(tx, input.voucher);
          if (claims.action !== action || claims.workflowId !== workflowId) throw refused(`it is for ${claims.action} at ${claims.workflowId}`);
          const spent = await tx
            .insert(spentVouchers)
            .values({ nonce: claims.nonce, spentBy, expiresAt: claims.expiresAt })
            .onConflictDoUpdate({ target: spentVouchers.nonce, set: { spentBy: sql`${spentVouchers.spentBy}` } })
            .returning();
          if (onlyRow(spent).spentBy !== spentBy) throw refused('it was used already');
          const late = onlyRow((await tx.execute<{ late: boolean }>(sql`select ${claims.expiresAt}::timestamptz <= now() as late`)).rows).late;
          if (late && before.length === 0) throw refused(`it expired at ${claims.expiresAt}`);
          requireMay(claims, ACTION_ROLES[action], name);
          sender = claims;
          await tx.delete(spentVouchers).where(lt(spentVouchers.expiresAt, sql`now() - interval '1 day'`));
        }
        if (before.length === 0) await writeAudit(tx, { action: `update.${action}`, subject, who: sender.who, details: { message: spentBy, request } });
        return { who: sender.who, roles: sender.roles };
      });
    },
  };
}
export type TokensStore = ReturnType<typeof createTokensStore>;

/** @throws NOT_ALLOWED saying which role is needed, or that the name is another project's */
export function requireMay(identity: Pick<Identity, 'who' | 'roles' | 'projects'>, role: Role, name?: string): void {
  if (!mayAct(identity, role))
    throw new MillraceError('NOT_ALLOWED', `${identity.who} may not do this: it needs the role ${role}, and the token has ${identity.roles.join(', ')}.`);
  if (name !== undefined && !coversName(identity, name))
    throw new MillraceError('NOT_ALLOWED', `${name} does not belong to the projects of ${identity.who} (${identity.projects.join(', ')}).`);
}

/** As the log names it: `endpoint/flights` is `endpoints/flights`. */
function subjectOf(workflowId: string): string {
  const [, kind, name] = /^(endpoint|retraining)\/(.+)$/.exec(workflowId) ?? [];
  return kind === undefined ? `workflows/${workflowId}` : `${kind}s/${name ?? ''}`;
}
