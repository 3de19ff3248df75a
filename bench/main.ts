/** `npm run bench -- NAME [--json] [--quick]`, `npm run bench -- --list`. */
import { parseArgs } from 'node:util';
import { describeError, ERRORS, MillraceError } from '../contracts/errors.ts';
import type { Benchmark, Figure } from './figure.ts';

/** Loaded when asked for: a benchmark may import much. */
const BENCHMARKS: Readonly<Record<string, () => Promise<{ readonly benchmark: Benchmark }>>> = {
  'stage-overhead': () => import('./stage-overhead.ts'),
  'ingest-validate': () => import('./ingest-validate.ts'),
  'ingest-30m': () => import('./ingest-30m.ts'),
  'point-in-time': () => import('./point-in-time.ts'),
  drift: () => import('./drift.ts'),
  'train-gbdt': () => import('./train-gbdt.ts'),
  tune: () => import('./tune.ts'),
  fraud: () => import('./fraud.ts'),
  'train-text': () => import('./train-text.ts'),
  'python-overhead': () => import('./python-overhead.ts'),
  serve: () => import('./serve.ts'),
  swap: () => import('./swap.ts'),
  guards: () => import('./guards.ts'),
  'batch-predict': () => import('./batch-predict.ts'),
  elec2: () => import('./elec2.ts'),
  'flights-drift': () => import('./flights-drift.ts'),
  tracking: () => import('./tracking.ts'),
  'simulate-days': () => import('./simulate-days.ts'),
  quickstart: () => import('./quickstart.ts'),
};

const round = (value: number): string => (Math.abs(value) >= 1000 ? value.toFixed(0) : value.toPrecision(4));

/** One line for people: value, range, peer, ratio, and whether the bar is met. */
function describeFigure(figure: Figure): string {
  const parts = [
    `${figure.metric}${figure.variant === undefined ? '' : ` (${figure.variant})`}`.padEnd(28),
    ` ${round(figure.value)} ${figure.unit}`.padStart(16),
    `  n=${figure.n}, ${round(figure.min)} … ${round(figure.max)}`,
  ];
  if (figure.peer !== undefined) parts.push(`  ${figure.peer}${figure.peerValue === undefined ? '' : ` ${round(figure.peerValue)} ${figure.unit}`}`);
  if (figure.ratio !== undefined) parts.push(`  ratio ${figure.ratio.toFixed(3)}`);
  if (figure.bar !== undefined) {
    const measured = figure.ratio ?? figure.value;
    const met = figure.better === 'higher' ? measured >= figure.bar : measured <= figure.bar;
    parts.push(`  bar ${figure.better === 'higher' ? '≥' : '≤'} ${round(figure.bar)}: ${met ? 'met' : 'missed'}`);
  }
  if (figure.quick) parts.push('  (quick)');
  return parts.join('');
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    options: {
      json: { type: 'boolean', default: false },
      quick: { type: 'boolean', default: false },
      list: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
    allowPositionals: true,
  });
  if (values.help) {
    process.stdout.write(`Usage: npm run bench -- NAME [--json] [--quick]\n       npm run bench -- --list\n\nNAME: ${Object.keys(BENCHMARKS).join(', ')}\n`);
    return;
  }
  if (values.list) {
    for (const [name, load] of Object.entries(BENCHMARKS)) {
      const { benchmark } = await load();
      process.stdout.write(values.json ? `${JSON.stringify({ name, summary: benchmark.summary })}\n` : `${name.padEnd(18)}${benchmark.summary}\n`);
    }
    return;
  }
  const [name] = positionals;
  const load = name === undefined ? undefined : BENCHMARKS[name];
  if (positionals.length !== 1 || load === undefined) {
    throw new MillraceError('USAGE', positionals.length === 1 ? `There is no benchmark ${positionals[0]}.` : 'Name one benchmark.', {
      fix: `Use one of: ${Object.keys(BENCHMARKS).join(', ')}.`,
    });
  }
  const { benchmark } = await load();
  await benchmark.run({
    quick: values.quick,
    emit: (figure) => {
      process.stdout.write(`${values.json ? JSON.stringify(figure) : describeFigure(figure)}\n`);
    },
  });
}

try {
  await main();
} catch (error) {
  if (error instanceof MillraceError) {
    process.stderr.write(`${describeError(error.report())}\n`);
    process.exitCode = ERRORS[error.code].exit;
  } else if (error instanceof TypeError && 'code' in error && String(error.code).startsWith('ERR_PARSE_ARGS')) {
    process.stderr.write(`${error.message}\n  How to fix it: ${ERRORS.USAGE.fix}\n`);
    process.exitCode = 2;
  } else throw error;
}
