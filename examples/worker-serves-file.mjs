// The main thread reads plain memory. A Worker fills each page when it is first touched, from a file,
// with asynchronous reads.   node examples/worker-serves-file.mjs [file]
import { open, stat } from 'node:fs/promises';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { Region, Userfaultfd } from 'userfaultfd';

if (isMainThread) {
  const file = process.argv[2] ?? process.execPath;
  const { size } = await stat(file);
  const wasmPages = Math.ceil(size / 65_536);
  const memory = new WebAssembly.Memory({ initial: wasmPages, maximum: wasmPages, shared: true });
  const worker = new Worker(new URL(import.meta.url), { workerData: { file, memory } });
  await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));

  const bytes = new Uint8Array(memory.buffer, 0, size);
  console.log(`${bytes[0]} ${bytes[size >> 1]} ${bytes[size - 1]}: three pages of ${size} bytes were read`);
  await worker.terminate();
} else {
  const file = await open(workerData.file);
  const region = Region.from(workerData.memory);
  const uffd = Userfaultfd.open();
  uffd.register(region, 'missing', { resolve: 'handler', deadlineMs: 5000, fallback: 'poison' });
  const events = uffd.events();
  parentPort.postMessage('registered');
  for await (const fault of events) {
    const page = new Uint8Array(region.pageSize);
    await file.read(page, 0, page.length, fault.pageOffset);
    await fault.resolve(page);
  }
}
