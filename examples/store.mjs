// What the examples test: records of a page each in a WebAssembly.Memory, with an index before them.

const RECORD = 65_536 / 16;
const HEADER = 65_536;

export function makeStore(records = 256) {
  const memory = new WebAssembly.Memory({ initial: 1 + Math.ceil((records * RECORD) / 65_536) });
  const bytes = new Uint8Array(memory.buffer);
  const index = new Uint16Array(memory.buffer, 0, records);
  const at = (id) => HEADER + id * RECORD;
  const put = (id, text) => {
    const { written } = new TextEncoder().encodeInto(text, bytes.subarray(at(id), at(id) + RECORD));
    index[id] = written;
  };
  return {
    memory,
    put,
    get: (id) => new TextDecoder().decode(bytes.subarray(at(id), at(id) + index[id])),
    importAll: async (texts) => {
      for (const [id, text] of texts.entries()) put(id, await text);
    },
    indexRange: { offset: 0, length: records * 2 },
    recordRange: (id) => ({ offset: at(id), length: RECORD }),
  };
}
