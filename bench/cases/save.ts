// save() of a whole snapshot beside fs.writeFile of the same bytes with the same sync.

import { randomFillSync } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { Region, Snapshot } from '../../lib/index.js';
import type { BenchCase, Side } from '../harness/bench.js';
import { GIB, MIB } from '../harness/pattern.js';

const benchCase: BenchCase = {
  title: 'save() of a whole snapshot of 1 GiB, in the directory for temporary files',
  deadlineSeconds: 600,
  needsBytes: 3 * GIB,

  async run(bench) {
    using region = Region.allocate({ bytes: bench.bytes(GIB) });
    const { bytes } = region;
    // No page is zero, none equals another.
    for (let at = 0; at < bytes.length; at += MIB) randomFillSync(bytes.subarray(at, at + MIB));
    using snapshot = Snapshot.take(region, { mode: 'copy' });
    const directory = mkdtempSync(path.join(os.tmpdir(), 'userfaultfd-bench-'));
    const writing = (name: string, write: (file: string) => Promise<unknown>): Side => {
      return async () => {
        const file = path.join(directory, name);
        const start = process.hrtime.bigint();
        await write(file);
        const time = Number(process.hrtime.bigint() - start);
        rmSync(file);
        return bytes.length / (time / 1e9);
      };
    };
    try {
      await bench.row({
        name: 'Bytes of memory a second',
        unit: 'bytes',
        // One round's disk is twice as fast as the next one's.
        rounds: 24,
        warmUp: 1,
        sides: {
          'snapshot.save()': writing('saved', (file) => snapshot.save(file)),
          'fs.writeFile, flush': writing('written', (file) =>
            writeFile(file, bytes, { flush: true, mode: 0o600 }),
          ),
        },
        targets: [{ ratio: ['snapshot.save()', 'fs.writeFile, flush'], atLeast: 0.8 }],
        notes: ['save() also makes a SHA-256 of each page, and syncs the directory'],
      });
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  },
};

export default benchCase;
