export async function runSoak(_minutes: number): Promise<number> {
  return 1
}
