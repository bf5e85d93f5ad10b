"""Templates for jinja2: the HTML and CSS of a report."""

STYLE = """\
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
@media (prefers-reduced-motion: reduce) { html { scroll-behavior: auto; } }
body { margin: 0 auto; padding: 1rem; max-width: 66rem; background: var(--paper); color: var(--ink);
       font: 1rem/1.55 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { line-height: 1.2; margin: .5rem 0; font-size: clamp(1.5rem, 6vw, 1.9rem); }
h2 { margin: 2.75rem 0 .5rem; padding-bottom: .25rem; border-bottom: 1px solid var(--line); font-size: 1.4rem; }
h3 { margin: 1.75rem 0 .5rem; font-size: 1.05rem; line-height: 1.35; }
p { max-width: 46rem; margin: .6rem 0; }
header p { font-size: 1.05rem; }
a { color: var(--link); }
nav ul { display: flex; flex-wrap: wrap; gap: .4rem; padding: 0; margin: 1rem 0 0; list-style: none; }
nav a { display: block; padding: .25rem .7rem; border: 1px solid var(--line); border-radius: 1rem;
        text-decoration: none; font-size: .9rem; }
.scroll { overflow-x: auto; max-width: 100%; }
:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .4rem 1rem .4rem 0; border-bottom: 1px solid var(--line); text-align: left;
         vertical-align: top; min-width: 4.5rem; }
td { min-width: 6rem; max-width: 26rem; }
th.number, td.number { text-align: right; white-space: nowrap; }
thead th { color: var(--faint); font-weight: 600; font-size: .9rem; vertical-align: bottom; }
tbody th { font-weight: 500; }
.headline { display: grid; gap: .75rem; margin: 1rem 0;
            grid-template-columns: repeat(auto-fit, minmax(min(8rem, 100%), 1fr)); }
.headline div { padding: .7rem .9rem; background: var(--raised); border: 1px solid var(--line);
                border-radius: .5rem; display: flex; flex-direction: column-reverse; justify-content: flex-end; }
.headline dt { color: var(--faint); font-size: .9rem; }
.headline dd { margin: 0; font-size: 1.3rem; font-weight: 600; line-height: 1.3; }
figure { margin: 0; min-width: 0; }
figure h3 { margin-top: .75rem; }
figcaption, .caption { color: var(--faint); font-size: .9rem; }
.charts { display: grid; gap: 1.5rem;
          grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); }
.charts figure { max-width: 40rem; }
.charts svg { display: block; width: 100%; height: auto; min-width: 19rem; }
.charts svg text { font-family: system-ui, sans-serif !important; }
.legend { display: flex; flex-wrap: wrap; gap: .1rem 1.1rem; margin: .1rem 0 .4rem; padding: 0; list-style: none;
          font-size: .9rem; }
.legend svg { display: inline-block; width: 1.6rem; min-width: 0; height: .6rem; margin-right: .4rem; }
.panel { display: grid; gap: .75rem;
         grid-template-columns: repeat(auto-fit, minmax(min(9rem, 100%), 1fr)); }
.panel .wide { grid-column: 1 / -1; }
.panel img, .panel video { display: block; max-width: 100%; height: auto; border-radius: .25rem; }
.panel .detailed { max-width: none; width: max(36rem, 100%); }
details { margin: 1rem 0; border: 1px solid var(--line); border-radius: .5rem; background: var(--raised); }
summary { padding: .6rem .9rem; cursor: pointer; font-weight: 600; }
.folded { padding: 0 clamp(.3rem, 1.5vw, .9rem) .9rem; }  /* room for the charts on a phone */
pre { margin: 0; padding: .2rem .9rem .9rem; font: .85rem/1.5 ui-monospace, monospace; }
"""

PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy"
      content="default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'">
<link rel="icon" href="data:,">
<title>{{ title }}</title>
<style>
:root {
  color-scheme: light dark;
  --paper: #ffffff; --raised: #f5f7f9; --ink: #1c1e21; --faint: #5a6169; --line: #d5d9de; --link: #0a5c99;
{% for light, dark in palette %}
  --series-{{ loop.index0 }}: {{ light }};
{% endfor %}
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171a; --raised: #1d2125; --ink: #e6e8ea; --faint: #a3abb4; --line: #3a4149; --link: #7cc3f5;
{% for light, dark in palette %}
    --series-{{ loop.index0 }}: {{ dark }};
{% endfor %}
  }
}
{{ style }}
</style>
</head>
<body>
<header>
<h1>{{ title }}</h1>
{% for paragraph in intro %}
<p>{{ paragraph }}</p>
{% endfor %}
{% if sections | length > 1 %}
<nav aria-label="Sections"><ul>
{% for section in sections %}
<li><a href="#{{ section.id }}">{{ section.title }}</a></li>
{% endfor %}
</ul></nav>
{% endif %}
</header>
<main>
{% for section in sections %}
<section id="{{ section.id }}">
<h2>{{ section.title }}</h2>
{% for paragraph in section.intro %}
<p>{{ paragraph }}</p>
{% endfor %}
{% for part in section.parts %}
{{ part }}
{% endfor %}
</section>
{% endfor %}
</main>
</body>
</html>
"""

_CAPTION = """\
{% if part.caption %}
<p class="caption">{{ part.caption }}</p>
{% endif %}
"""

PARTS = {
    "headline": """\
<dl class="headline">
{% for name, value in part.values.items() %}
<div><dt>{{ name }}</dt><dd>{{ value | cell }}</dd></div>
{% endfor %}
</dl>
""",
    "table": """\
<h3>{{ part.title }}</h3>
<div class="scroll" role="region" aria-label="{{ part.title }}" tabindex="0"><table>
<thead><tr>
{% for column in part.columns %}
{% set first = part.rows[0][loop.index0] if part.rows else "" %}
<th scope="col"{% if first is numeric %} class="number"{% endif %}>{{ column }}</th>
{% endfor %}
</tr></thead>
<tbody>
{% for row in part.rows %}
<tr>
{% for value in row %}
{% if loop.first %}
<th scope="row"{% if value is numeric %} class="number"{% endif %}>{{ value | cell }}</th>
{% else %}
<td{% if value is numeric %} class="number"{% endif %}>{{ value | cell }}</td>
{% endif %}
{% endfor %}
</tr>
{% endfor %}
</tbody>
</table></div>
"""
    + _CAPTION,
    "facts": """\
{% if part.title %}
<h3>{{ part.title }}</h3>
{% endif %}
<div class="scroll"><table><tbody>
{% for name, value in part.values.items() %}
<tr><th scope="row">{{ name }}</th><td>{{ value | cell }}</td></tr>
{% endfor %}
</tbody></table></div>
"""
    + _CAPTION,
    "charts": """\
<div class="charts">
{% for chart in charts %}
<figure>
<h3>{{ chart.title }}</h3>
{% if chart.legend %}
<ul class="legend">
{% for name, color, dashed in chart.legend %}
<li><svg viewBox="0 0 32 12" aria-hidden="true"><path d="M0 6H32" stroke="var(--series-{{ color }})" stroke-width="3"
{%- if dashed %} stroke-dasharray="7 5"{% endif %}/></svg>{{ name }}</li>
{% endfor %}
</ul>
{% endif %}
<div class="scroll">{{ chart.svg }}</div>
{% if chart.caption %}
<figcaption>{{ chart.caption }}</figcaption>
{% endif %}
</figure>
{% endfor %}
</div>
""",
    "picture": """\
<h3>{{ part.title }}</h3>
<div class="panel">
{% for label, image in part.parts.items() %}
{% set media = image | media %}
{% set name = part.title ~ (": " ~ label if label else "") %}
<figure{% if media.width > 1.5 * media.height or (image.mime and media.width > 600) %} class="wide"{% endif %}>
{% if media.mime.startswith("video/") %}
<video src="{{ media | uri }}" width="{{ media.width }}" height="{{ media.height }}" aria-label="{{ name }}"
       controls loop muted playsinline></video>
{% else %}
<div class="scroll"><img src="{{ media | uri }}" width="{{ media.width }}" height="{{ media.height }}" alt="{{ name }}"
{%- if image.mime and media.width > 600 %} class="detailed"{% endif %}></div>
{% endif %}
{% if label %}
<figcaption>{{ label }}</figcaption>
{% endif %}
</figure>
{% endfor %}
</div>
"""
    + _CAPTION,
    "text": """\
<details>
<summary>{{ part.title }}</summary>
<div class="scroll" role="region" aria-label="{{ part.title }}" tabindex="0"><pre>{{ part.text }}</pre></div>
</details>
""",
    "folded": """\
<details>
<summary>{{ part.title }}</summary>
<div class="folded">
{% for html in inner %}
{{ html }}
{% endfor %}
</div>
</details>
""",
    "notes": """\
<ul>
{% for item in part.items %}
<li>{{ item }}</li>
{% endfor %}
</ul>
""",
}
