export async function runScaling(_pairs: number): Promise<number> {
  return 1
}
