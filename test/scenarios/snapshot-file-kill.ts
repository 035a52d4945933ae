import path from 'node:path';
import { Region, Snapshot } from '../../lib/index.js';
import { PAGE } from './dirty-support.js';

/** Saves version 1, 2, 3, … until somebody kills this process; tells of each that is done. */
export async function saveForEver(directory: string, kind: string): Promise<void> {
  const region = Region.allocate({ bytes: 4 << 20 });
  const [file, parent] = [path.join(directory, 'file'), path.join(directory, 'parent')];
  const save = async (version: number, target: string): Promise<void> => {
    // A byte may not be zero, or the page would not be in the file.
    for (let at = 0; at < region.byteLength; at += PAGE) region.bytes[at] = version;
    using snapshot = Snapshot.take(region);
    await snapshot.save(target, kind === 'difference' && target === file ? { parent } : {});
  };
  await save(250, parent);
  let started = performance.now();
  for (let version = 1; version < 250; version++) {
    await save(version, file);
    if (version === 1) console.log(`took ${Math.ceil(performance.now() - started)}`);
    console.log(`saved ${version}`);
    started = performance.now();
  }
}
