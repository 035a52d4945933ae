// A Worker whose handler leaves the main thread in a fault, sends it a signal, and looks how often it is
// told of that fault while the main thread spins in the kernel.

import { readFileSync } from 'node:fs';
import { isMainThread, parentPort, workerData } from 'node:worker_threads';
import { PageFault, Region, Userfaultfd } from '../../lib/index.js';

/** Clock ticks that the main thread spent in the kernel: stime, proc(5). */
function kernelTicks(): number {
  const stat = readFileSync(`/proc/self/task/${process.pid}/stat`, 'utf8');
  return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[12]);
}

async function serve(memory: WebAssembly.Memory): Promise<void> {
  const uffd = Userfaultfd.open({ userModeOnly: false });
  uffd.register(Region.from(memory), 'missing', { resolve: 'handler', deadlineMs: 600_000 });
  const faults: PageFault[] = [];
  const reading = (async () => {
    for await (const event of uffd) if (event instanceof PageFault) faults.push(event);
  })();
  parentPort!.postMessage('registered');
  const turn = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 1));
  while (faults.length === 0) await turn();
  const before = kernelTicks();
  process.kill(process.pid, 'SIGUSR2');
  while (kernelTicks() < before + 10) await turn();
  parentPort!.postMessage(
    faults.map(({ reason, access, pageOffset }) => `${reason} ${access} ${pageOffset}`),
  );
  await faults[0]!.resolve();
  uffd.close();
  await reading;
}

if (!isMainThread) void serve((workerData as { memory: WebAssembly.Memory }).memory);
