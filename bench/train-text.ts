import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { summarise, type Benchmark, type BenchmarkOptions } from './figure.ts';
import { filmReviews, spamMails, splitTexts } from './labelled-texts.ts';
import { ensurePythonEnvironment } from './python-environment.ts';

const execute = promisify(execFile);

/** Those of train-gbdt, so that one environment serves both. */
const REQUIREMENTS = ['lightgbm==4.6.0', 'numpy==2.4.6', 'scipy==1.17.1', 'scikit-learn==1.9.1'];

interface Fit {
  readonly seconds: number;
  readonly cpuSeconds: number;
  readonly accuracy: number;
  readonly peakMib: number;
}

/** The usual pipeline: TF-IDF of words and pairs of words, and logistic regression at its defaults. */
const SKLEARN_SCRIPT = `
import json, resource, sys, time
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
data = json.load(open(sys.argv[1], encoding="utf-8"))
train, test = data["train"], data["test"]
started, cpu = time.perf_counter(), time.process_time()
vectorizer = TfidfVectorizer(ngram_range=(1, 2), max_features=50000, min_df=2)
model = LogisticRegression(C=1.0, max_iter=1000).fit(vectorizer.fit_transform(train["texts"]), train["labels"])
seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
accuracy = model.score(vectorizer.transform(test["texts"]), test["labels"])
print(json.dumps(dict(seconds=seconds, cpuSeconds=cpu_seconds, accuracy=accuracy, peakMib=peak)))
`;

const readFit = (stdout: string): Fit => JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as Fit;

async function run({ quick, emit }: BenchmarkOptions): Promise<void> {
  const python = await ensurePythonEnvironment('lightgbm', REQUIREMENTS);
  const source = import.meta.url.endsWith('.ts');
  const child = fileURLToPath(new URL(`./train-text-child${source ? '.ts' : '.js'}`, import.meta.url));
  const folder = await mkdtemp(join(tmpdir(), 'millrace-bench-'));
  const reviews = filmReviews();
  try {
    for (const [name, data] of [['spam mails', spamMails(quick ? 5 : 1)] as const, ...(reviews === undefined ? [] : [['film reviews', reviews] as const])]) {
      const file = join(folder, 'data.json');
      await writeFile(file, JSON.stringify(splitTexts(data)));
      const ours: Fit[] = [];
      const theirs: Fit[] = [];
      for (let repetition = 0; repetition < (quick ? 1 : 3); repetition += 1) {
        ours.push(readFit((await execute(process.execPath, [...(source ? ['--import', 'tsx'] : []), child, file])).stdout));
        // One thread each: NumPy's products would else take all cores.
        const env = { ...process.env, OMP_NUM_THREADS: '1', OPENBLAS_NUM_THREADS: '1' };
        theirs.push(readFit((await execute(python, ['-c', SKLEARN_SCRIPT, file], { env })).stdout));
      }
      const report = (metric: keyof Fit, key: string, unit: string, better: 'lower' | 'higher', bar?: number): void => {
        const summary = summarise(ours.map((fit) => fit[metric]));
        const peerValue = summarise(theirs.map((fit) => fit[metric])).value;
        emit({
          bench: 'train-text',
          metric: key,
          variant: `${name}, ${data.texts.length} texts`,
          ...summary,
          unit,
          peer: 'scikit-learn',
          peerValue,
          ratio: summary.value / peerValue,
          better,
          ...(bar === undefined ? {} : { bar }),
          ...(quick ? { quick } : {}),
        });
      };
      report('seconds', 'seconds', 's', 'lower', 3);
      report('cpuSeconds', 'cpu_seconds', 's', 'lower');
      // Within 0.01 of scikit-learn's, as a ratio of its accuracy.
      report('accuracy', 'accuracy', 'share', 'higher', 1 - 0.01 / summarise(theirs.map((fit) => fit.accuracy)).value);
      report('peakMib', 'peak_mib', 'MiB', 'lower');
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

export const benchmark: Benchmark = {
  name: 'train-text',
  summary: 'TF-IDF and logistic regression on spam mails and film reviews: time, accuracy and peak memory, beside scikit-learn',
  run,
};
