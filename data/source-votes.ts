/**
 * What is true where sources contradict each other.
 *
 * A value's score is the sum over its sources of ln(n·a ÷ (1 − a)): a is the source's accuracy for the column, n the number of different
 * values that are claimed. From the values' probabilities (softmax of the scores) the accuracies are learnt anew, and so on. Source of
 * the model: X. L. Dong, L. Berti-Équille, D. Srivastava, "Integrating Conflicting Data: The Role of Source Dependence", VLDB 2009 (ACCU);
 * here n is taken from the claims, accuracies are smoothed, and they begin with the agreement with trusted sources.
 *
 * Invariant: the same claims give the same values, whatever the number of threads: scores are rounded before they are compared.
 */
import type { DuckDb } from './duckdb.ts';
import { identifier, textLiteral } from './sql-text.ts';

export interface VoteOptions {
  /** A relation of rows. */
  readonly relation: string;
  /** Rows that are alike in these are about the same thing. */
  readonly by: readonly string[];
  readonly column: string;
  readonly source?: string;
  readonly trusted?: readonly string[];
}

const ROUNDS = 10;
/** An accuracy is never taken for more or less certain than this. */
const MOST = 0.99;
const LEAST = 0.01;
/** What a source is taken for before anything is known of it, and how many claims that counts for. */
const PRIOR = 0.6;
const PRIOR_TRUSTLESS = 0.8;
const PRIOR_CLAIMS = 2;
const TRUSTED = 0.97;
const DIGITS = 9;

/** The name of a table `(g, v)`: for each group, numbered as in the table `groups(g, by …)`, the value that is taken. Both are new. */
export async function voteTable(
  db: DuckDb,
  { relation, by, column, source, trusted }: VoteOptions,
  name: string,
): Promise<{ readonly groups: string; readonly votes: string }> {
  const [groups, claims, votes, accuracies] = ['groups', 'claims', 'votes', 'accuracies'].map((table) => `${name}_${table}`) as [
    string,
    string,
    string,
    string,
  ];
  const keys = by.map(identifier);
  await db.run(
    `CREATE TEMPORARY TABLE ${groups} AS SELECT ${keys.join(', ')}, row_number() OVER () AS g FROM (SELECT DISTINCT ${keys.join(', ')} FROM ${relation})`,
  );
  const same = keys.map((key) => `r.${key} IS NOT DISTINCT FROM k.${key}`).join(' AND ');
  const s = source === undefined ? "''" : `CAST(r.${identifier(source)} AS VARCHAR)`;
  await db.run(
    `CREATE TEMPORARY TABLE ${claims} AS SELECT g, r.${identifier(column)} AS v, coalesce(${s}, '') AS s, count(*) AS n FROM ${relation} AS r JOIN ${groups} AS k ON ${same} WHERE r.${identifier(column)} IS NOT NULL GROUP BY ALL`,
  );
  const most = (scored: string): string =>
    `SELECT g, v FROM (SELECT g, v, row_number() OVER (PARTITION BY g ORDER BY score DESC, v) AS place FROM (${scored})) WHERE place = 1`;
  if (source === undefined) {
    await db.run(`CREATE TEMPORARY TABLE ${votes} AS ${most(`SELECT g, v, sum(n) AS score FROM ${claims} GROUP BY ALL`)}`);
    return { groups, votes };
  }
  const isTrusted = trusted === undefined ? 'false' : `s IN (${trusted.map(textLiteral).join(', ')})`;
  const prior = trusted === undefined ? PRIOR_TRUSTLESS : PRIOR;
  const accuracy = (right: string, all: string): string =>
    `CASE WHEN ${isTrusted} THEN ${TRUSTED} ELSE least(${MOST}, greatest(${LEAST}, (${right} + ${PRIOR_CLAIMS * prior}) / (${all} + ${PRIOR_CLAIMS}))) END`;
  // What the trusted say first; a source that never speaks beside them keeps what is taken for granted.
  const said = most(`SELECT g, v, sum(n) AS score FROM ${claims} WHERE ${isTrusted} GROUP BY ALL`);
  await db.run(
    `CREATE TEMPORARY TABLE ${accuracies} AS SELECT s, ${accuracy('coalesce(sum(n) FILTER (WHERE c.v = t.v), 0)', 'coalesce(sum(n) FILTER (WHERE t.v IS NOT NULL), 0)')} AS a FROM ${claims} AS c LEFT JOIN (${said}) AS t USING (g) GROUP BY s`,
  );
  const scored = `SELECT c.g, c.v, round(sum(n * ln(greatest(d, 2) * a / (1 - a))), ${DIGITS}) AS score FROM ${claims} AS c JOIN ${accuracies} USING (s) JOIN (SELECT g, count(DISTINCT v) AS d FROM ${claims} GROUP BY g) AS w ON w.g = c.g GROUP BY ALL`;
  for (let round = 1; round < ROUNDS; round++) {
    const likely = `SELECT g, v, p / sum(p) OVER (PARTITION BY g) AS p FROM (SELECT g, v, exp(score - max(score) OVER (PARTITION BY g)) AS p FROM (${scored}))`;
    await db.run(
      `CREATE OR REPLACE TEMPORARY TABLE ${accuracies} AS SELECT s, round(${accuracy('sum(n * p)', 'sum(n)')}, ${DIGITS}) AS a FROM ${claims} AS c JOIN (${likely}) AS l ON l.g = c.g AND l.v = c.v GROUP BY s`,
    );
  }
  await db.run(`CREATE TEMPORARY TABLE ${votes} AS ${most(scored)}`);
  return { groups, votes };
}
