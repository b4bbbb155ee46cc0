/** Scrolls to the card of a job that was just submitted if it is out of view, as on a phone, where the gallery is below the form. Runs in the browser. */

export function scrollToCard(jobId: string): void {
  // The card is drawn with the next frame.
  requestAnimationFrame(() => {
    const calm = matchMedia('(prefers-reduced-motion: reduce)').matches
    document.querySelector(`[data-job="${jobId}"]`)?.scrollIntoView({ block: 'nearest', behavior: calm ? 'auto' : 'smooth' })
  })
}
