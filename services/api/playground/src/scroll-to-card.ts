/** Brings the card of a job that was just submitted into view, where it is not: on a phone the gallery lies below the form. Runs in the browser. */

export function scrollToCard(jobId: string): void {
  // The card is drawn with the next frame.
  requestAnimationFrame(() => {
    const calm = matchMedia('(prefers-reduced-motion: reduce)').matches
    document.querySelector(`[data-job="${jobId}"]`)?.scrollIntoView({ block: 'nearest', behavior: calm ? 'auto' : 'smooth' })
  })
}
