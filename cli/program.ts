import { Command } from 'commander';
import { packageVersion } from '../config/package-root.ts';
import { addAlertsCommands } from './alerts-commands.ts';
import { addApprovalsCommands } from './approvals-commands.ts';
import { addAuditCommands } from './audit-commands.ts';
import { addBackupCommands } from './backup-commands.ts';
import { addModelsCommands, addPipelinesCommands } from './catalogue-commands.ts';
import { addCardCommand } from './card-command.ts';
import type { Program } from './command.ts';
import { addCompareCommand } from './compare-command.ts';
import { asCommandLine } from './command-roles.ts';
import { addDatasetsCommands } from './datasets-commands.ts';
import { addEndpointsCommands } from './endpoints-commands.ts';
import { addExportCommand } from './export-command.ts';
import { addExpectationsCommands } from './expectations-commands.ts';
import { addFeaturesCommands } from './features-commands.ts';
import { tellFailure } from './failure.ts';
import { addInitCommand } from './init-command.ts';
import { addLabelCommands } from './label-commands.ts';
import { addLineageCommand } from './lineage-command.ts';
import { addMovingCommands } from './moving-commands.ts';
import { addPredictCommand } from './predict-command.ts';
import { addQuickstartCommand } from './quickstart-command.ts';
import { addReportCommand } from './report-command.ts';
import { addRetrainingCommands } from './retraining-commands.ts';
import { addRunCommand, addStageCommand } from './run-command.ts';
import { addRunsCommands } from './runs-commands.ts';
import { addScheduleCommands } from './schedule-commands.ts';
import { addSimulateCommand } from './simulate-command.ts';
import { addStackCommands } from './stack-commands.ts';
import { addSuggestCommand } from './suggest-command.ts';
import { addTriggersCommands } from './triggers-commands.ts';
import { addTokensCommands } from './tokens-commands.ts';
import type { Terminal } from './terminal.ts';

/** The whole command line, as commander knows it. */
export function createProgram(terminal: Terminal, exit: (code: number) => void): Command {
  const root = new Command('millrace')
    .description('Machine-learning pipelines as durable Temporal workflows.')
    .version(packageVersion, '-V, --version', 'print the version')
    .showSuggestionAfterError()
    .exitOverride()
    .configureOutput({
      writeOut: (text) => terminal.write(text),
      // Usage errors come back as exceptions, and are told like any other; help that stands for a missing command is shown.
      writeErr: (text) => {
        if (!text.startsWith('error:')) terminal.writeError(text);
      },
    });
  const program: Program = { root, terminal, exit };
  addStackCommands(program);
  addQuickstartCommand(program);
  addInitCommand(program);
  addRunCommand(program);
  addStageCommand(program);
  addRunsCommands(program);
  addPipelinesCommands(program);
  addDatasetsCommands(program);
  addReportCommand(program);
  addSuggestCommand(program);
  addExpectationsCommands(program);
  addFeaturesCommands(program);
  addModelsCommands(program);
  addCardCommand(program);
  addCompareCommand(program);
  addExportCommand(program);
  addEndpointsCommands(program);
  addPredictCommand(program);
  addLabelCommands(program);
  addAlertsCommands(program);
  addRetrainingCommands(program);
  addTriggersCommands(program);
  addSimulateCommand(program);
  addLineageCommand(program);
  addBackupCommands(program);
  addMovingCommands(program);
  addScheduleCommands(program);
  addTokensCommands(program);
  addAuditCommands(program);
  addApprovalsCommands(program);
  root.addHelpText(
    'after',
    '\nExit codes: 0 done, 1 the work failed, 2 bad usage or input, 3 a needed service is not reachable.\nEvery command has --help, --json and --debug.',
  );
  return root;
}

/** The command that the arguments name, for a hint at its help. */
function commandPath(root: Command, args: readonly string[]): string {
  const path = [root.name()];
  let at = root;
  for (const arg of args) {
    const next = at.commands.find((command) => command.name() === arg);
    if (next === undefined) break;
    path.push(next.name());
    at = next;
  }
  return path.join(' ');
}

/** `endpoints rollback`. */
function pathOf(command: Command): string {
  return command.parent?.parent ? `${pathOf(command.parent)} ${command.name()}` : command.name();
}

/**
 * Runs one command line (without node and script).
 *
 * @returns The exit code: 0 done, 1 the work failed, 2 bad usage or input, 3 a needed service is not reachable.
 */
export async function runCommandLine(args: readonly string[], terminal: Terminal): Promise<number> {
  let exitCode = 0;
  const root = createProgram(terminal, (code) => {
    exitCode = code;
  });
  try {
    await asCommandLine((name) => root.hook('preAction', (_root, command) => name(pathOf(command))).parseAsync(args, { from: 'user' }));
    return exitCode;
  } catch (error) {
    return tellFailure(error, terminal, { json: args.includes('--json'), debug: args.includes('--debug'), hint: `See ${commandPath(root, args)} --help.` });
  }
}
