import { type ModelCard, ModelCardSchema } from '../../contracts/model-card.ts';

/** A card of a bare file: next to nothing is known of it. */
export const bareCard = (more: Partial<ModelCard> = {}): ModelCard =>
  ModelCardSchema.parse({
    format: 'millrace-card/1',
    model: 'late',
    version: 3,
    description: null,
    owner: null,
    purpose: null,
    createdAt: '2026-03-01T10:20:30.000Z',
    predictor: 'a'.repeat(64),
    onnxSizeBytes: 2_340,
    run: { id: 'b'.repeat(32), pipeline: 'flightDelay', commit: null, clean: null, build: null },
    task: { kind: 'raw' },
    threshold: null,
    trainer: { name: 'import', parameters: {} },
    training: null,
    data: [],
    columns: [],
    importance: [],
    selection: null,
    evaluation: null,
    hiddenSlices: [],
    rules: [],
    tuning: null,
    environment: {},
    page: null,
    ...more,
  } satisfies ModelCard);
