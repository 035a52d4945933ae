/** A name that came out of somebody's file must not drive the terminal that shows it. */
export function printable(text: string): string {
  return text.replace(/[\u0000-\u001f\u007f-\u009f]/g, '\ufffd');
}
