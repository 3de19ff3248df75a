/** The workflows that every build hosts beside the pipelines. Their exported names are their types. */
export { askRetraining } from './ask-retraining.ts';
export { endpoint } from './endpoint.ts';
export { monitor } from './monitor.ts';
export { reproduce } from './reproduce.ts';
export { retraining } from './retraining.ts';
export { stage } from './single-stage.ts';
export { tuning } from './tuning.ts';
export { probe, undoRun } from './undo-run.ts';
