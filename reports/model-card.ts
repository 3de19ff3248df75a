import type { ModelCard } from '../contracts/model-card.ts';
import { curvesPart, metricsPart, rulesPart, slicesPart } from './card-evaluation.ts';
import { metricName, plain, score, words } from './card-text.ts';
import { dataPart, importancePart, makingPart, tuningPart } from './card-training.ts';
import { factsList, pageFrame } from './report-frame.ts';
import { count, escaped, timeText } from './report-text.ts';

const HEADING = /<h2 id="([a-z]+)">([^<]*)<\/h2>/g;

/** The order in which a purpose is told; whatever else it states comes after. */
const PURPOSE = ['task', 'decision', 'outcome', 'businessMetric', 'owner'];

function purposePart({ purpose, description }: ModelCard): string {
  const place = (name: string): number => (PURPOSE.includes(name) ? PURPOSE.indexOf(name) : PURPOSE.length);
  const told = Object.entries(purpose ?? {})
    .filter(([, value]) => value !== null && value !== '')
    .sort(([a], [b]) => place(a) - place(b));
  if (told.length === 0 && description === null) return '';
  const facts = told.map(([name, value]) => `<div><dt>${escaped(words(name))}</dt><dd>${plain(value)}</dd></div>`);
  return `<h2 id="purpose">Purpose</h2>${description === null ? '' : `<p class="prose">${escaped(description)}</p>`}${facts.length === 0 ? '' : `<dl class="prose">${facts.join('')}</dl>`}`;
}

/** The figures on top: what it is judged by, and on how much. */
function summary({ evaluation, trainer, training, rules, task }: ModelCard): (readonly [string, string])[] {
  const main = evaluation?.metrics[evaluation.metric];
  const interval = evaluation?.intervals[evaluation.metric];
  const range = interval === undefined ? '' : `<small>${score(interval.low)} to ${score(interval.high)}</small>`;
  const held = rules.filter(({ state }) => state === 'holds').length;
  return [
    ...(evaluation === null || main === undefined ? [] : [[escaped(metricName(evaluation.metric)), `${score(main)}${range}`] as const]),
    ['Trainer', escaped(trainer.name)],
    ...(task.kind === 'raw' ? [] : [['Task', task.kind] as const]),
    ...(training === null ? [] : [['Training rows', count(training.rows)] as const]),
    ...(evaluation === null ? [] : [['Test rows', count(evaluation.rows)] as const]),
    ...(rules.length === 0 ? [] : [['Rules that hold', `${count(held)} of ${count(rules.length)}`] as const]),
  ];
}

/** The page of a model card: whole in itself, without scripts and without requests. What the card does not say is left out. */
export async function modelCardPage(card: ModelCard): Promise<string> {
  const { model, version, owner, createdAt, run } = card;
  const parts = [
    purposePart(card),
    metricsPart(card),
    rulesPart(card),
    await curvesPart(card),
    slicesPart(card),
    await importancePart(card),
    await tuningPart(card),
    dataPart(card),
    makingPart(card),
  ].join('');
  const links = [...parts.matchAll(HEADING)].map(([, id = '', text = '']) => `<li><a href="#${id}">${text}</a></li>`);
  const header = `<header><h1>${escaped(model)} <span class="version">version ${String(version)}</span></h1><p class="soft">Registered ${timeText(createdAt)} by ${escaped(run.pipeline)}, run <code>${escaped(run.id.slice(0, 12))}</code>${owner === null ? '' : ` · ${escaped(owner)} answers for it`}</p>${factsList(summary(card))}</header>`;
  return pageFrame(`${model}, version ${String(version)}: model card`, `${header}<nav aria-label="Contents"><ul>${links.join('')}</ul></nav>${parts}`);
}
