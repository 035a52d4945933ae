// A Worker whose handler leaves the main thread in a fault, sends it a signal, and looks how often it is
// told of that fault while the main thread spins in the kernel.

import { isMainThread, parentPort, workerData } from 'node:worker_threads';
import { PageFault, Region, Userfaultfd } from '../../lib/index.js';
import { kernelTicks } from '../support/testing.js';

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
  const before = kernelTicks(process.pid);
  process.kill(process.pid, 'SIGUSR2');
  while (kernelTicks(process.pid) < before + 10) await turn();
  parentPort!.postMessage(
    faults.map(({ reason, access, pageOffset }) => `${reason} ${access} ${pageOffset}`),
  );
  await faults[0]!.resolve();
  uffd.close();
  await reading;
}

if (!isMainThread) void serve((workerData as { memory: WebAssembly.Memory }).memory);
