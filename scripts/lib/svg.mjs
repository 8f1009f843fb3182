// What the pictures of the documentation have in common.

/** Text that is no markup. */
export function escaped(text) {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')
}

/** A picture that follows the reader's choice of light and dark. */
export function svg({ width, height, title, style, body }) {
  const size = `width="${width}" height="${height}" viewBox="0 0 ${width} ${height}"`
  const label = `role="img" aria-label="${escaped(title)}"`
  return `<svg xmlns="http://www.w3.org/2000/svg" ${size} ${label}>
<title>${escaped(title)}</title>
<style>
${style}
</style>
${body.join('\n')}
</svg>
`
}
