declare module 'bindings' {
  /** Finds and loads `name`.node of the calling package. */
  export default function bindings(name: string): unknown;
}
