// A lazy restore: until the first byte is readable, until 1 % was read at random, until all is there;
// beside reading the file into fresh memory and beside an eager restore.

import { randomFillSync } from 'node:crypto';
import { closeSync, mkdtempSync, openSync, readSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Region, Snapshot, SnapshotFile, type LazyRestore, type SnapshotResolver } from '../../lib/index.js';
import type { BenchCase, Side } from '../harness/bench.js';
import { GIB, MIB } from '../harness/pattern.js';

const PAGE = 4096;

const benchCase: BenchCase = {
  title: 'lazy restore of 1 GiB',
  deadlineSeconds: 600,
  needsBytes: 5 * GIB,

  async run(bench) {
    const bytes = bench.bytes(GIB);
    const directory = mkdtempSync(path.join(tmpdir(), 'userfaultfd-bench-'));
    try {
      const name = path.join(directory, 'file');
      await saveRandom(bytes, name);
      using file = await SnapshotFile.open(name);
      const pages = bytes / PAGE;
      const some = Array.from(
        { length: Math.max(Math.floor(pages / 100), 1) },
        (_, i) => (i * 7919 * 31) % pages,
      );

      const lazy =
        (resolver: SnapshotResolver, until: (region: Region, restore: LazyRestore) => unknown): Side =>
        async () => {
          using region = Region.allocate({ bytes, hugePages: 'never' });
          const start = process.hrtime.bigint();
          const restore = file.restore(region, { lazy: true, resolver });
          await until(region, restore);
          const time = Number(process.hrtime.bigint() - start);
          restore.close();
          return time;
        };
      const eager: Side = async () => {
        using region = Region.allocate({ bytes, hugePages: 'never' });
        const start = process.hrtime.bigint();
        await file.restore(region);
        return Number(process.hrtime.bigint() - start);
      };
      const readFile: Side = () => {
        using region = Region.allocate({ bytes, hugePages: 'never' });
        const start = process.hrtime.bigint();
        const fd = openSync(name, 'r');
        for (let at = 0; at < bytes;)
          at += readSync(fd, region.bytes, at, Math.min(bytes - at, 2 ** 20), PAGE + at);
        closeSync(fd);
        return Number(process.hrtime.bigint() - start);
      };

      await bench.row({
        name: 'first byte',
        rounds: 10,
        sides: {
          loop: lazy('loop', (region) => region.bytes[bytes / 2]),
          'in-thread': lazy('in-thread', (region) => region.bytes[bytes / 2]),
        },
        targets: [
          { side: 'loop', atMost: 10e6 },
          { side: 'in-thread', atMost: 10e6 },
        ],
      });
      const touch = (region: Region): number =>
        some.reduce((sum, page) => sum + region.bytes[page * PAGE]!, 0);
      await bench.row({
        name: '1 % at random',
        rounds: 6,
        sides: { loop: lazy('loop', touch), 'in-thread': lazy('in-thread', touch), 'restore()': eager },
        ratios: [
          ['loop', 'restore()'],
          ['in-thread', 'restore()'],
        ],
      });
      await bench.row({
        name: 'all',
        rounds: 6,
        sides: {
          loop: lazy('loop', (_region, restore) => restore.loaded),
          'in-thread': lazy('in-thread', (_region, restore) => restore.loaded),
          'restore()': eager,
          'read(2), unchecked': readFile,
        },
        targets: [
          { ratio: ['loop', 'restore()'], atMost: 1.3 },
          { ratio: ['in-thread', 'restore()'], atMost: 1.3 },
        ],
        ratios: [['loop', 'read(2), unchecked']],
        notes: [
          'restore() reads and checks the whole file before it writes the first byte, and then once more',
        ],
      });
    } finally {
      rmSync(directory, { recursive: true });
    }
  },
};

async function saveRandom(bytes: number, name: string): Promise<void> {
  using region = Region.allocate({ bytes, hugePages: 'never' });
  for (let at = 0; at < bytes; at += MIB) randomFillSync(region.bytes, at, MIB);
  using snapshot = Snapshot.take(region, { mode: 'copy' });
  await snapshot.save(name);
}

export default benchCase;
