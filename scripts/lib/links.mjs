// Links within a site.

import * as fs from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { filesUnder } from './files.mjs'

/** The links of a site's pages that lead to no file or to no place on a page. */
export function brokenLinks(site) {
  const files = new Set(filesUnder(site))
  const pages = [...files].filter((file) => file.endsWith('.html'))
  const places = new Map(
    pages.map((file) => [file, new Set(attributes(fs.readFileSync(file, 'utf8'), 'id'))]),
  )
  return pages.flatMap((page) =>
    attributes(fs.readFileSync(page, 'utf8'), 'href')
      .filter((href) => !/^[a-z]+:|^\/\//.test(href))
      .filter((href) => !leadsSomewhere(href, page, site, files, places))
      .map((href) => `${relative(site, page)}: ${href}`),
  )
}

function leadsSomewhere(href, page, site, files, places) {
  const [path, place = ''] = decodeURIComponent(href).split('#')
  const base = path.startsWith('/') ? join(site, path) : join(dirname(page), path)
  const target =
    path === ''
      ? page
      : [base, `${base}.html`, join(base, 'index.html')].find((file) => files.has(file))
  if (target === undefined) return false
  return place === '' || places.get(target)?.has(place) !== false
}

function attributes(html, name) {
  const found = html.matchAll(new RegExp(`\\s${name}="([^"]*)"`, 'g'))
  return [...found].map(([, value]) => value.replaceAll('&amp;', '&'))
}
