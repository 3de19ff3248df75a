/** A helper thread of one training: works off the tasks of each phase (see crew.ts) until it is told to stop. */
import { workerData } from 'node:worker_threads';
import { CONTROL, SPINS, workOff, type CrewMemberData } from './crew.ts';
import { bindKernels } from './kernels.ts';
import { createTaskRunner } from './tasks.ts';

const { memory, module, layout, limits, columns, thread } = workerData as CrewMemberData;
const runner = createTaskRunner(memory, layout, bindKernels(module, memory), limits, columns);
const control = new Int32Array(memory.buffer, layout.control, 16);

let spins = 0;
while (Atomics.load(control, CONTROL.stop) === 0) {
  const wake = Atomics.load(control, CONTROL.wake);
  if (Atomics.load(control, CONTROL.remaining) > 0) {
    workOff(control, runner, thread);
    spins = 0;
  } else {
    spins += 1;
    if (spins > SPINS && Atomics.load(control, CONTROL.stop) === 0) {
      Atomics.wait(control, CONTROL.wake, wake);
      spins = 0;
    }
  }
}
