// One measurement for each of many touches.

export function timeEach(count: number, touch: (index: number) => void): Float64Array {
  const times = new Float64Array(count);
  for (let i = 0; i < count; i++) {
    const start = process.hrtime.bigint();
    touch(i);
    times[i] = Number(process.hrtime.bigint() - start);
  }
  return times;
}
