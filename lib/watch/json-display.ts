// Records for programs: one JSON object a line. Their fields are in docs/command-line.md.

import type { Display, ProgramEnd } from './display.js';
import type { Output } from './output.js';
import type { Mark, MemoryState, WatchedProgram } from './watched-program.js';

export class JsonDisplay implements Display {
  readonly #output: Output;

  constructor(output: Output) {
    this.#output = output;
  }

  threadStarted(thread: number, engine: string): void {
    this.#print({ type: 'thread', thread, engine });
  }

  intervalEnded(state: MemoryState, time: number): void {
    const ranges: { offset: number; length: number }[] = [];
    for (let i = 0; i < state.ranges.length; i += 2) {
      ranges.push({ offset: state.ranges[i]!, length: state.ranges[i + 1]! });
    }
    // What only the picture needs is left out.
    this.#print({ type: 'memory', time, ...state, history: undefined, lead: undefined, ranges });
  }

  marked(mark: Mark, time: number): void {
    this.#print({ type: 'mark', time, ...mark });
  }

  problem(thread: number, message: string): void {
    this.#print({ type: 'problem', thread, message });
  }

  tick(): void {
    // Records come as they come.
  }

  ended({ code, signal }: ProgramEnd, program: WatchedProgram): void {
    const { elapsedMs: time, complete, memoryCount: memories, marks, lookMs } = program;
    this.#print({ type: 'end', time, code, signal, complete, memories, marks: marks.count, lookMs });
  }

  #print(record: object): void {
    this.#output.write(`${JSON.stringify(record)}\n`);
  }
}
