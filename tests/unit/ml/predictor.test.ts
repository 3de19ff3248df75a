import { Tensor } from 'onnxruntime-node';
import { describe, expect, it } from 'vitest';
import { numeric, text } from '../../../contracts/features.ts';
import { SignatureSchema } from '../../../contracts/signature.ts';
import { fitFeatures } from '../../../ml/features/fit-features.ts';
import { decodeModel, encodeModel, ONNX_TYPE, valueInfo } from '../../../ml/onnx/graph-builder.ts';
import { buildPredictorGraph, wrapBareOnnx } from '../../../ml/predictor.ts';
import { createScorer } from '../../../ml/score.ts';
import { rawTable, runModel } from './raw-tables.ts';

// Files made by skl2onnx 1.20.0 from scikit-learn 1.7.2; the answers are scikit-learn's own.
const CLASSIFIER =
  'CAgSCHNrbDJvbm54GgYxLjIwLjAiB2FpLm9ubngoADIAOrsCCtkBCgFYEgVsYWJlbBINcHJvYmFiaWxpdGllcxoQTGluZWFyQ2xhc3NpZmllciIQTGluZWFyQ2xhc3NpZmllcioZChBjbGFzc2xhYmVsc19pbnRzQABAAaABByolCgxjb2VmZmljaWVudHM9Gj1ivz2lule/PRo9Yj89pbpXP6ABBioZCgppbnRlcmNlcHRzPebE+z895sT7v6ABBioSCgttdWx0aV9jbGFzcxgAoAECKh0KDnBvc3RfdHJhbnNmb3JtIghMT0dJU1RJQ6ABAzoKYWkub25ueC5tbBIYT05OWChMb2dpc3RpY1JlZ3Jlc3Npb24pWhEKAVgSDAoKCAESBgoACgIIAmIRCgVsYWJlbBIICgYIBxICCgBiHQoNcHJvYmFiaWxpdGllcxIMCgoIARIGCgAKAggCQg4KCmFpLm9ubngubWwQAUIECgAQEUIECgAQEQ==';
const ZIP_MAP =
  'CAgSCHNrbDJvbm54GgYxLjIwLjAiB2FpLm9ubngoADIAOtcDCtkBCgFYEgVsYWJlbBINcHJvYmFiaWxpdGllcxoQTGluZWFyQ2xhc3NpZmllciIQTGluZWFyQ2xhc3NpZmllcioZChBjbGFzc2xhYmVsc19pbnRzQABAAaABByolCgxjb2VmZmljaWVudHM9Gj1ivz2lule/PRo9Yj89pbpXP6ABBioZCgppbnRlcmNlcHRzPebE+z895sT7v6ABBioSCgttdWx0aV9jbGFzcxgAoAECKh0KDnBvc3RfdHJhbnNmb3JtIghMT0dJU1RJQ6ABAzoKYWkub25ueC5tbAouCgVsYWJlbBIMb3V0cHV0X2xhYmVsGgRDYXN0IgRDYXN0KgkKAnRvGAegAQI6AApcCg1wcm9iYWJpbGl0aWVzEhJvdXRwdXRfcHJvYmFiaWxpdHkaBlppcE1hcCIGWmlwTWFwKhsKEmNsYXNzbGFiZWxzX2ludDY0c0AAQAGgAQc6CmFpLm9ubngubWwSGE9OTlgoTG9naXN0aWNSZWdyZXNzaW9uKVoRCgFYEgwKCggBEgYKAAoCCAJiGAoMb3V0cHV0X2xhYmVsEggKBggHEgIKAGIkChJvdXRwdXRfcHJvYmFiaWxpdHkSDiIMCgoqCAgHEgQKAggBQgQKABARQg4KCmFpLm9ubngubWwQAQ==';
const DOUBLES =
  'CAgSCHNrbDJvbm54GgYxLjIwLjAiB2FpLm9ubngoADIAOqkCCicKAVgKBGNvZWYSCm11bHRpcGxpZWQaBk1hdE11bCIGTWF0TXVsOgAKKQoKbXVsdGlwbGllZAoJaW50ZXJjZXB0EgRyZXNoGgNBZGQiA0FkZDoACjIKBHJlc2gKDHNoYXBlX3RlbnNvchIIdmFyaWFibGUaB1Jlc2hhcGUiB1Jlc2hhcGU6ABIWT05OWChMaW5lYXJSZWdyZXNzaW9uKSoeCAIIARALQgRjb2VmUhDSCMs9jbAEQNMIyz2NsARAKhkIARALQglpbnRlcmNlcHRSCNjTCMs9jfC/Kh8IAhAHOgv///////////8BAUIMc2hhcGVfdGVuc29yWhEKAVgSDAoKCAsSBgoACgIIAmIYCgh2YXJpYWJsZRIMCgoICxIGCgAKAggBQgQKABAR';
const OPEN =
  'CAgSCHNrbDJvbm54GgYxLjIwLjAiB2FpLm9ubngoADIAOrkCCtkBCgFYEgVsYWJlbBINcHJvYmFiaWxpdGllcxoQTGluZWFyQ2xhc3NpZmllciIQTGluZWFyQ2xhc3NpZmllcioZChBjbGFzc2xhYmVsc19pbnRzQABAAaABByolCgxjb2VmZmljaWVudHM9Gj1ivz2lule/PRo9Yj89pbpXP6ABBioZCgppbnRlcmNlcHRzPebE+z895sT7v6ABBioSCgttdWx0aV9jbGFzcxgAoAECKh0KDnBvc3RfdHJhbnNmb3JtIghMT0dJU1RJQ6ABAzoKYWkub25ueC5tbBIYT05OWChMb2dpc3RpY1JlZ3Jlc3Npb24pWg8KAVgSCgoICAESBAoACgBiEQoFbGFiZWwSCAoGCAcSAgoAYh0KDXByb2JhYmlsaXRpZXMSDAoKCAESBgoACgIIAkIOCgphaS5vbm54Lm1sEAFCBAoAEBFCBAoAEBE=';
const NAMED =
  'CAgSCHNrbDJvbm54GgYxLjIwLjAiB2FpLm9ubngoADIAOucGCiwKBXN0b3BzEgpzdG9wc19jYXN0GgRDYXN0IgRDYXN0KgkKAnRvGAGgAQI6AAo6CgZvcmlnaW4KB29yaWdpbjASCG9yaWdpbjAxGgZHYXRoZXIiBkdhdGhlcioLCgRheGlzGAGgAQI6AApFCghkaXN0YW5jZQoKc3RvcHNfY2FzdBIObWVyZ2VkX2NvbHVtbnMaBkNvbmNhdCIGQ29uY2F0KgsKBGF4aXMYAaABAjoACmgKCG9yaWdpbjAxEgtvcmlnaW4wMW91dBoNT25lSG90RW5jb2RlciINT25lSG90RW5jb2RlcioXCgxjYXRzX3N0cmluZ3NKAWFKAWKgAQgqDAoFemVyb3MYAaABAjoKYWkub25ueC5tbAo6CgtvcmlnaW4wMW91dAoMc2hhcGVfdGVuc29yEgl2YXJpYWJsZTEaB1Jlc2hhcGUiB1Jlc2hhcGU6AApPCg5tZXJnZWRfY29sdW1ucwoJdmFyaWFibGUxEhJ0cmFuc2Zvcm1lZF9jb2x1bW4aB0NvbmNhdDEiBkNvbmNhdCoLCgRheGlzGAGgAQI6AAr+AQoSdHJhbnNmb3JtZWRfY29sdW1uEgVsYWJlbBINcHJvYmFiaWxpdGllcxoQTGluZWFyQ2xhc3NpZmllciIQTGluZWFyQ2xhc3NpZmllcioZChBjbGFzc2xhYmVsc19pbnRzQABAAaABByo5Cgxjb2VmZmljaWVudHM9UH6Bvz3kGPi+PUZYfT49jk99vj1QfoE/PeQY+D49Rlh9vj2OT30+oAEGKhkKCmludGVyY2VwdHM9GwyDQD0bDIPAoAEGKhIKC211bHRpX2NsYXNzGACgAQIqHQoOcG9zdF90cmFuc2Zvcm0iCExPR0lTVElDoAEDOgphaS5vbm54Lm1sEg5PTk5YKFBpcGVsaW5lKSoQCAEQBzoBAEIHb3JpZ2luMCofCAIQBzoL////////////AQJCDHNoYXBlX3RlbnNvcloYCghkaXN0YW5jZRIMCgoIARIGCgAKAggBWhYKBm9yaWdpbhIMCgoICBIGCgAKAggBWhUKBXN0b3BzEgwKCggHEgYKAAoCCAFiEQoFbGFiZWwSCAoGCAcSAgoAYh0KDXByb2JhYmlsaXRpZXMSDAoKCAESBgoACgIIAkIECgAQEUIOCgphaS5vbm54Lm1sEAE=';

const bytes = (base64: string): Uint8Array => new Uint8Array(Buffer.from(base64, 'base64'));
const expectRows = (found: Float32Array, expected: readonly number[]): void => {
  expect(found).toHaveLength(expected.length);
  expected.forEach((value, i) => {
    expect(found[i]).toBeCloseTo(value, 5);
  });
};

describe('a bare ONNX file', () => {
  it('answers its probabilities from grouped numbers', async () => {
    const { onnx, signature } = wrapBareOnnx(bytes(CLASSIFIER));
    expect(SignatureSchema.parse(signature)).toEqual(signature);
    expect(signature.graph).toEqual({ numbers: ['f0', 'f1'], dates: [], strings: [] });
    expect(signature.task).toEqual({ kind: 'raw' });
    const { dims, data } = await runModel(onnx, { numbers: new Tensor('float32', Float32Array.of(0, 0, 1, 0, 0, 1), [3, 2]) });
    expect(dims).toEqual([3, 2]);
    expectRows(data, [0.8772827418518804, 0.12271725814811967, 0.7470993622113399, 0.2529006377886601, 0.7547770543070277, 0.24522294569297232]);
  });

  it('may compute in float64', async () => {
    const { onnx } = wrapBareOnnx(bytes(DOUBLES));
    const { dims, data } = await runModel(onnx, { numbers: new Tensor('float32', Float32Array.of(0, 0, 1, 0, 0, 1), [3, 2]) });
    expect(dims).toEqual([3, 1]);
    expectRows(data, [-1.0344827586206886, 1.5517241379310347, 1.5517241379310351]);
  });

  it('keeps the names of inputs with one column, whole numbers and texts among them', async () => {
    const { onnx, signature } = wrapBareOnnx(bytes(NAMED));
    expect(signature.columns).toEqual([
      { name: 'distance', type: 'number' },
      { name: 'origin', type: 'string' },
      { name: 'stops', type: 'integer' },
    ]);
    expect(signature.graph).toEqual({ numbers: ['distance', 'stops'], dates: [], strings: ['origin'] });
    const scorer = await createScorer(onnx, signature.graph);
    const scores = await scorer.score(rawTable({ distance: [1, 2, 3], origin: ['a', 'b', 'a'], stops: [0, 1, 0] }));
    await scorer.close();
    expect(scores.outputs).toBe(2);
    expectRows(scores.values, [0.9654760411279318, 0.03452395887206812, 0.7924825011527732, 0.20751749884722676, 0.7871168468116573, 0.2128831531883427]);
  });

  it('with a ZipMap is refused, with what to do', () => {
    expect(() => wrapBareOnnx(bytes(ZIP_MAP))).toThrow(
      expect.objectContaining({
        code: 'MODEL_INVALID',
        problems: [expect.objectContaining({ fix: expect.stringContaining('zipmap') as string })] as unknown[],
      }) as Error,
    );
  });

  it('with an open number of columns is refused', () => {
    expect(() => wrapBareOnnx(bytes(OPEN))).toThrow(
      expect.objectContaining({ code: 'MODEL_INVALID', problems: [expect.objectContaining({ path: 'inputs.X' })] as unknown[] }) as Error,
    );
  });

  it.each([
    ['text', new TextEncoder().encode('this is not a model')],
    ['nothing', new Uint8Array(0)],
    ['a cut file', bytes(CLASSIFIER).slice(0, 100)],
  ])('that is %s is refused', (_, broken) => {
    expect(() => wrapBareOnnx(broken)).toThrow(expect.objectContaining({ code: 'MODEL_INVALID' }) as Error);
  });

  it('whose own tensors are called as the signature calls its inputs still loads', async () => {
    const own = encodeModel({
      graphName: 'g',
      nodes: [
        { opType: 'Neg', domain: '', name: 'a', input: ['strings'], output: ['numbers'] },
        { opType: 'Identity', domain: '', name: 'b', input: ['numbers'], output: ['answer'] },
      ],
      initializers: [],
      inputs: [valueInfo('strings', ONNX_TYPE.float, 3)],
      outputs: [valueInfo('answer', ONNX_TYPE.float, 3)],
      opset: { ai: 13, ml: 3 },
      metadata: {},
    });
    const { onnx, signature } = wrapBareOnnx(own);
    expect(signature.graph.numbers).toEqual(['f0', 'f1', 'f2']);
    const { data } = await runModel(onnx, { numbers: new Tensor('float32', Float32Array.of(1, 2, 3), [1, 3]) });
    expect([...data]).toEqual([-1, -2, -3]);
  });
});

describe('a predictor graph', () => {
  const table = rawTable({ x: [1, 2, 3], body: ['free money', 'free lunch', null] });
  const fitted = fitFeatures({ features: { x: numeric(), body: text({ minDocuments: 1 }) }, table, trainer: 'gbdt', seed: 1 });
  const build = () =>
    buildPredictorGraph({
      fitted,
      toOnnx: (input) => ({ nodes: [], initializers: [], output: input, opset: { ai: 20 } }),
      outputs: fitted.names.length,
      classes: ['a', 'b'],
    });

  it('carries its names in its metadata, and is the same bytes each time', () => {
    const { onnx, graph } = build();
    expect(Buffer.from(build().onnx).equals(onnx)).toBe(true);
    expect(graph).toEqual({ numbers: ['x'], dates: [], strings: ['body'] });
    const metadata = Object.fromEntries(decodeModel(onnx).metadataProps.map(({ key, value }) => [key ?? '', value ?? '']));
    expect(JSON.parse(metadata['millrace.features'] ?? '')).toEqual(['x', 'body:free', 'body:lunch', 'body:money']);
    expect(JSON.parse(metadata['millrace.classes'] ?? '')).toEqual(['a', 'b']);
  });

  it('registered as a bare file keeps its bytes and its column names', () => {
    const { onnx, graph } = build();
    const wrapped = wrapBareOnnx(onnx);
    expect(wrapped.onnx).toBe(onnx);
    expect(wrapped.signature.graph).toEqual(graph);
  });

  it('scores rows in batches that fit memory as it scores them one by one', async () => {
    const { onnx, graph } = build();
    const scorer = await createScorer(onnx, graph);
    const long = rawTable({
      x: Array.from({ length: 40 }, (_, i) => i),
      body: Array.from({ length: 40 }, (_, i) => 'free money '.repeat(1 + 2000 * (i % 20))),
    });
    const whole = await scorer.score(long);
    const single = await scorer.score(long, { batchRows: 1 });
    await scorer.close();
    expect(whole.rows).toBe(40);
    expect(whole.values).toEqual(single.values);
  });
});
