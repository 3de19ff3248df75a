// The health check of a worker's container: exits 0 when the file named by MILLRACE_READY_FILE was touched lately.
import { isReadyFileFresh } from './ready.ts';

process.exitCode = isReadyFileFresh(process.env['MILLRACE_READY_FILE'] ?? '', Date.now()) ? 0 : 1;
