import {
  approval,
  call,
  clean,
  col,
  definePipeline,
  deploy,
  evaluate,
  ingest,
  linear,
  monitor,
  register,
  replace,
  select,
  set,
  split,
  text,
  train,
  validate,
} from 'millrace';
import { mailExpectations } from './expectations.ts';
import { SpamFilterParams } from './params.ts';

/** Is this mail spam? A linear model on the words of 6,046 real mails. */
export const spamFilter = definePipeline(
  {
    params: SpamFilterParams,
    purpose: { task: 'Tell spam from wanted mail by its text.', decision: 'Which mails go to the spam folder', outcome: 'what the reader says of it' },
  },
  async (p) => {
    const raw = await ingest({ source: { format: 'text', path: p.source, encoding: 'latin-1' }, name: 'mails' });
    const checked = await validate(raw, { expectations: mailExpectations });
    const cleaned = await clean(checked, [
      set('spam', call('startsWith', col('folder'), 'spam')),
      // words and numbers are what tells; the same is done to the text of a request
      set('text', call('regexReplace', call('lower', col('text')), '[^a-z0-9$!]+', ' ')),
    ]);
    const {
      train: fit,
      validation,
      test,
    } = await split(cleaned, { by: 'stratified', column: 'spam', validationFraction: 0.1, testFraction: 0.2, seed: p.seed });
    const shared = { target: 'spam', validation, seed: p.seed } as const;
    const candidates = await Promise.all([
      train(fit, { ...shared, trainer: linear({ l2: 1 }), features: { text: text({ maxFeatures: p.maxTerms }) }, name: 'train-words' }),
      train(fit, { ...shared, trainer: linear({ l2: 1 }), features: { text: text({ maxFeatures: p.maxTerms, ngrams: 2 }) }, name: 'train-word-pairs' }),
    ]);
    const winner = await select(candidates, { on: validation, metric: 'auc' });
    const judged = await evaluate(winner, { on: test, accept: { atLeast: { auc: 0.9 } } });
    const version = await register(judged, { model: 'spam-filter' });
    await approval('production', { version, when: false });
    const deployment = await deploy(version, { endpoint: p.endpoint, rollout: replace() });
    await monitor(p.endpoint, { every: '1 hour' });
    return { model: version.model, version: version.version, metrics: judged.metrics, endpoint: deployment.endpoint };
  },
);
