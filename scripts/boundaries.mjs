// Checks the arrows between the folders (rules and reasons: .dependency-cruiser.cjs). Prints each violation with its path
// and its rule's reason; exits 1 when there is one.
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cruise } from 'dependency-cruiser';
import extractTSConfig from 'dependency-cruiser/config-utl/extract-ts-config';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const config = createRequire(import.meta.url)('../.dependency-cruiser.cjs');

/** Runs both rule sets over the tree at `root`; returns every violation as `{ rule, from, to, via }` and how many modules were read. */
export async function checkBoundaries(root = ROOT) {
  const folders = [...config.folders, ...(existsSync(join(root, 'tests')) ? ['tests'] : [])].filter((folder) => existsSync(join(root, folder)));
  const tsConfig = extractTSConfig(join(root, 'tsconfig.json'));
  // Imports are looked up as they are written; rewritten to .js there would be nothing to find.
  tsConfig.options.rewriteRelativeImportExtensions = false;
  const violations = [];
  let modules = 0;
  for (const { forbidden, options } of [config, config.values]) {
    const { tsConfig: _readAbove, ...rest } = options;
    const { output } = await cruise(folders, { ...rest, baseDir: root, ruleSet: { forbidden, options: rest }, validate: true }, rest.enhancedResolveOptions, {
      tsConfig,
    });
    modules = Math.max(modules, output.summary.totalCruised);
    for (const { rule, from, to, via, cycle, comment } of output.summary.violations) {
      violations.push({
        rule: rule.name,
        from,
        to,
        via: (via ?? cycle ?? []).map((step) => step.name),
        reason: comment ?? forbidden.find((r) => r.name === rule.name)?.comment,
      });
    }
  }
  return { violations, modules };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { violations, modules } = await checkBoundaries();
  for (const { rule, from, to, via, reason } of violations) {
    console.error(`${from} → ${[...via, ...(via.at(-1) === to ? [] : [to])].join(' → ')}\n    ${rule}: ${reason}`);
  }
  console.log(`${modules} modules, ${violations.length} violations`);
  // a tree in which nothing is found keeps every rule
  process.exitCode = violations.length === 0 && modules > 100 ? 0 : 1;
}
