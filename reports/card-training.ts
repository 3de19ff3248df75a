import type { CardColumn, ModelCard } from '../contracts/model-card.ts';
import { parallelPlot, tuningPlot } from './card-plots.ts';
import { metricName, plain, score, withSpread, words } from './card-text.ts';
import { barsPlot } from './report-plots.ts';
import { count, escaped, figure, share, timeText } from './report-text.ts';

/** Parts of a model card that say how the version came to be; each is empty where nothing is known. */
const IMPORTANCE_SHOWN = 15;

/** Two columns of texts, already HTML. */
const pairs = (rows: readonly (readonly [string, string])[]): string =>
  rows.length === 0
    ? ''
    : `<table class="fit pairs"><tbody>${rows.map(([name, value]) => `<tr><th scope="row">${name}</th><td>${value}</td></tr>`).join('')}</tbody></table>`;

export async function importancePart({ importance, evaluation }: ModelCard): Promise<string> {
  const cards: string[] = [];
  const shares = importance.filter(({ share: part }) => part > 0).toSorted((a, b) => b.share - a.share);
  if (shares.length > 0) {
    const bars = shares.slice(0, IMPORTANCE_SHOWN).map(({ feature, share: part }) => ({ name: feature, value: part, text: share(part, 1) }));
    const rest = shares.slice(IMPORTANCE_SHOWN);
    const plot = await barsPlot(bars, `Importance in the model: ${bars.map(({ name, text }) => `${name} ${text}`).join(', ')}`);
    const more =
      rest.length === 0
        ? ''
        : `<p class="soft">${count(rest.length)} more share ${share(
            rest.reduce((sum, { share: part }) => sum + part, 0),
            1,
          )}.</p>`;
    cards.push(
      `<section class="card"><h3>In the model</h3>${plot}<p class="soft">Share of what the features tell the model, as its trainer counts it.</p>${more}</section>`,
    );
  }
  const permuted = evaluation?.importance ?? [];
  if (evaluation !== null && permuted.length > 0) {
    const bars = permuted.slice(0, IMPORTANCE_SHOWN).map(({ column, loss, deviation }) => ({ name: column, value: loss, text: withSpread(loss, deviation) }));
    const least = Math.min(0, ...bars.map(({ value }) => value));
    const most = Math.max(0, ...bars.map(({ value }) => value)) || 1;
    const metric = metricName(evaluation.metric);
    const plot = await barsPlot(bars, `Importance by permutation: ${bars.map(({ name, text }) => `${name} ${text}`).join(', ')}`, {
      range: [least, most],
      hasAxis: false,
    });
    cards.push(
      `<section class="card"><h3>By permutation</h3>${plot}<p class="soft">How much worse ${escaped(metric)} gets when a column is shuffled, and its spread over the repeats.</p></section>`,
    );
  }
  return cards.length === 0 ? '' : `<h2 id="importance">Importance</h2><div class="cards">${cards.join('')}</div>`;
}

/** All candidates in one table: what they were chosen by, and the other chief metrics. */
function candidatesTable({ metric, scores }: NonNullable<ModelCard['selection']>): string {
  const others = [...new Set(scores.flatMap(({ metrics = {} }) => Object.keys(metrics)))].filter((name) => name !== metric);
  const head = [metric, ...others].map((name) => `<th class="n">${escaped(metricName(name))}</th>`).join('');
  const rows = scores.map(({ trainer, value, chosen, metrics = {} }) => {
    const figures = others.map((name) => `<td class="n">${metrics[name] === undefined ? '' : score(metrics[name])}</td>`).join('');
    return `<tr><td>${escaped(trainer)}</td><td class="n">${score(value)}</td>${figures}<td>${chosen ? '<span class="tag chosen">chosen</span>' : ''}</td></tr>`;
  });
  return `<h2 id="candidates">Candidates</h2><p class="soft">On the validation rows, chosen by ${escaped(metricName(metric))}.</p><div class="scroll"><table class="fit"><thead><tr><th>trainer</th>${head}<th></th></tr></thead><tbody>${rows.join('')}</tbody></table></div>`;
}

export async function tuningPart({ tuning, selection }: ModelCard): Promise<string> {
  const compared = selection === null || selection.scores.length < 2 ? '' : candidatesTable(selection);
  if (tuning === null) return compared;
  const states = ['completed', 'stopped', 'failed', 'cancelled'] as const;
  const counted = states.flatMap((state) => {
    const n = tuning.trials.filter((trial) => trial.state === state).length;
    return n === 0 ? [] : [`${count(n)} ${state === 'stopped' ? 'stopped early' : state}`];
  });
  const best = tuning.trials.find(({ trial }) => trial === tuning.best);
  const [history, parallel] = [await tuningPlot(tuning), await parallelPlot(tuning)];
  const outside = history === null || history.outside === 0 ? '' : ` ${count(history.outside)} worse ones are drawn at the edge.`;
  const historyCard =
    history === null
      ? ''
      : `<section class="card"><h3>${escaped(metricName(tuning.metric))} by trial</h3>${history.svg}<p class="soft">Line: the best so far. Hollow: stopped early.${outside}</p></section>`;
  const bestCard =
    best === undefined
      ? ''
      : `<section class="card"><h3>The best: trial ${count(best.trial)}</h3>${pairs([
          [escaped(metricName(tuning.metric)), score(best.value)],
          ...Object.entries(best.values).map(([name, value]) => [escaped(name), typeof value === 'number' ? figure(value) : plain(value)] as const),
        ])}</section>`;
  const left = parallel === null || parallel.left.length === 0 ? '' : ` Not drawn: ${parallel.left.map(escaped).join(', ')}.`;
  const parallelCard =
    parallel === null
      ? ''
      : `<section class="card whole"><h3>Trials by their parameters</h3><div class="scroll"><div class="broad-plot">${parallel.svg}</div></div><p class="soft">A line a trial, to its ${escaped(metricName(tuning.metric))}: higher is better here. Strong: the best ones, and the best of all.${left}</p></section>`;
  return `${compared}<h2 id="tuning">Tuning</h2><p class="soft">${count(tuning.trials.length)} trials (${counted.join(', ')}), search by ${escaped(words(tuning.search))}, seed ${String(tuning.seed)}.</p><div class="cards">${historyCard}${bestCard}</div>${parallelCard}`;
}

const PERSONAL = { hash: 'personal: hashed', mask: 'personal: masked', undeclared: 'looks personal' } as const;

function columnRow({ name, type, personal, unserved, view, training }: CardColumn): string {
  const tags = [
    ...(personal === null ? [] : [PERSONAL[personal]]),
    ...(view === null ? [] : [`from ${view}`]),
    ...(unserved === null ? [] : [`made by ${unserved}: send it ready`]),
  ].map((text) => ` <span class="tag">${escaped(text)}</span>`);
  const at = (value: number | string | null | undefined): string =>
    value === null || value === undefined ? '' : typeof value === 'number' ? figure(Number(value.toPrecision(5))) : escaped(timeText(value));
  const cells =
    training === null
      ? ['', '', '', '', '']
      : [share(training.nulls, training.rows), count(training.distinct), at(training.range?.[0]), at(training.range?.[1]), at(training.range?.[2])];
  return `<tr><td>${escaped(name)}${tags.join('')}</td><td>${escaped(type)}</td>${cells.map((cell) => `<td class="n">${cell}</td>`).join('')}</tr>`;
}

/** Datasets, and the columns that a request carries. */
export function dataPart({ data, columns, training, task }: ModelCard): string {
  if (data.length === 0 && columns.length === 0) return '';
  const datasets =
    data.length === 0
      ? ''
      : `<table class="fit"><thead><tr><th>part</th><th>dataset</th><th class="n">rows</th></tr></thead><tbody>${data
          .map(
            ({ role, id, name, rows }) =>
              `<tr><td class="part">${role}</td><td>${escaped(name)} <code>${escaped(id.slice(0, 12))}</code></td><td class="n">${count(rows)}</td></tr>`,
          )
          .join('')}</tbody></table>`;
  const profiled = columns.some((column) => column.training !== null);
  const head = ['missing', 'distinct', 'least', 'median', 'greatest'].map((name) => `<th class="n">${name}</th>`).join('');
  const table =
    columns.length === 0
      ? ''
      : `<h3>Columns that a request carries</h3>${profiled ? '<p class="soft">With what the training rows are like.</p>' : ''}<div class="scroll"><table class="columns"><thead><tr><th>column</th><th>type</th>${head}</tr></thead><tbody>${columns.map(columnRow).join('')}</tbody></table></div>`;
  const features = training?.features ?? [];
  const kinds =
    features.length === 0
      ? ''
      : `<details><summary>${count(features.length)} ${features.length === 1 ? 'feature' : 'features'} made of them</summary>${pairs(
          features.map(({ name, kind, columns: of }) => [
            escaped(name),
            `${escaped(kind)}${of.length === 1 && of[0] === name ? '' : ` of ${of.map(escaped).join(', ')}`}`,
          ]),
        )}</details>`;
  const target =
    task.kind === 'raw'
      ? ''
      : `<p>Target: <b>${escaped(task.target)}</b>${task.kind === 'regression' ? ', a number' : `, ${count(task.classes.length)} classes`}.</p>`;
  return `<h2 id="data">Data</h2>${target}${datasets}${table}${kinds}`;
}

/** Lists and records without entries say nothing. */
const isEmpty = (value: unknown): boolean => value === null || (typeof value === 'object' && Object.keys(value).length === 0);

/** Trainer, parameters and surroundings: what a repetition needs. */
export function makingPart({ trainer, training, run, predictor, onnxSizeBytes, environment }: ModelCard): string {
  const parameters = trainer.parameters;
  const isRecord = typeof parameters === 'object' && parameters !== null && !Array.isArray(parameters);
  const given = isRecord
    ? Object.entries(parameters)
        .filter(([, value]) => !isEmpty(value))
        .map(([name, value]) => [escaped(name), typeof value === 'number' ? figure(value) : plain(value)] as const)
    : parameters === null || parameters === undefined
      ? []
      : [['parameters', plain(parameters)] as const];
  const size =
    onnxSizeBytes < 1_000_000
      ? `${figure(Number((onnxSizeBytes / 1_000).toPrecision(3)))} kB`
      : `${figure(Number((onnxSizeBytes / 1_000_000).toPrecision(3)))} MB`;
  const facts: (readonly [string, string])[] = [
    ['run', `<code>${escaped(run.id)}</code> of ${escaped(run.pipeline)}`],
    ...(run.commit === null
      ? []
      : [['commit', `<code>${escaped(run.commit)}</code>${run.clean === false ? ', with changes that are not in it' : ''}`] as const]),
    ...(run.build === null ? [] : [['build', `<code>${escaped(run.build)}</code>`] as const]),
    ['predictor', `<code>${escaped(predictor)}</code>`],
    ['ONNX file', size],
    ...(training === null
      ? []
      : [
          ['seed', String(training.seed)] as const,
          ['training rows', `${count(training.rows)}${training.rows < training.ofRows ? ` of ${count(training.ofRows)}` : ''}`] as const,
          ...(training.from === null ? [] : [['went on from', `<code>${escaped(training.from)}</code>`] as const]),
          ...(training.device === null ? [] : [['device', escaped(training.device)] as const]),
          ...(training.cpuSeconds === null ? [] : [['CPU', `${figure(Number(training.cpuSeconds.toPrecision(3)))} s`] as const]),
          ...(training.peakMib === null ? [] : [['memory', `${count(Math.round(training.peakMib))} MiB at most`] as const]),
        ]),
    ...Object.entries(environment).map(([name, value]) => [escaped(name), escaped(value)] as const),
  ];
  return `<h2 id="making">How it was made</h2><div class="cards two"><section class="card"><h3>${escaped(trainer.name)}</h3>${given.length === 0 ? '<p class="soft">No parameters.</p>' : pairs(given)}</section><section class="card"><h3>Run and surroundings</h3>${pairs(facts)}</section></div>`;
}
