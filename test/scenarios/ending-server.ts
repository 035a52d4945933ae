// A Worker that registers shared memory with a handler, which answers nothing, answers late, or is
// registered anew whenever its userfaultfd was closed.

import { isMainThread, workerData } from 'node:worker_threads';
import { PageFault, Region, Userfaultfd, type UffdError } from '../../lib/index.js';

export interface ServerOrder {
  memory: WebAssembly.Memory;
  /** `late`: after so many milliseconds, with pages of `ANSWER`. */
  answers: 'never' | 'late';
  lateMs?: number;
  /** Set, of SERVER. */
  control: Int32Array;
}

export const SERVER = { registered: 0, refused: 1, length: 2 } as const;
export const ANSWER = 7;

const LONGEST_DEADLINE_MS = 2 ** 31 - 1;

function tell(control: Int32Array, index: number): void {
  Atomics.store(control, index, 1);
  Atomics.notify(control, index);
}

async function serve({ memory, answers, lateMs, control }: ServerOrder): Promise<void> {
  const region = Region.from(memory);
  const unanswered: PageFault[] = [];
  for (;;) {
    let uffd: Userfaultfd;
    try {
      uffd = Userfaultfd.open();
    } catch (error) {
      if ((error as UffdError).code === 'ERR_UFFD_CLOSED') tell(control, SERVER.refused);
      throw error;
    }
    uffd.register(region, 'missing', { resolve: 'handler', deadlineMs: LONGEST_DEADLINE_MS });
    const events = uffd.events();
    tell(control, SERVER.registered);
    for await (const fault of events) {
      if (!(fault instanceof PageFault)) continue;
      unanswered.push(fault);
      if (answers === 'never') continue;
      await new Promise((resolve) => setTimeout(resolve, lateMs));
      await fault.resolve(new Uint8Array(region.pageSize).fill(ANSWER));
    }
  }
}

if (!isMainThread) void serve(workerData as ServerOrder);
