"""The chat templates of the generations, as each was published for its own chat function.

They mark what the assistant says, which the published ones do not; rendered to text and encoded
again, special tokens read, a chat has the ids of its template. Knows no tokenizer.
"""

BLANK_BEFORE_ANSWERS = "{#- the blank before a last answer is the one before every text -#}"
"""In a template, and so true of it: encoded apart from its question an answer has no such blank."""

CHATGLM_TEMPLATE = (
    f"""\
{BLANK_BEFORE_ANSWERS}
"""
    + """\
{%- if tools -%}{{- raise_exception('ChatGLM knows no tools') -}}{%- endif -%}
{%- set turns = messages -%}
{%- if messages[0]['role'] == 'system' -%}
{%- if messages[0]['content'] -%}{{- messages[0]['content'] + '\\n' -}}{%- endif -%}
{%- set turns = messages[1:] -%}
{%- endif -%}
{%- for message in turns -%}
{%- set content = message['content'] or '' -%}
{%- if message['role'] == 'user' -%}
{%- if loop.length > 2 -%}
{{- '[Round ' ~ (loop.index0 // 2) ~ ']\\n问：' + content + '\\n' -}}
{%- if not loop.last or add_generation_prompt -%}{{- '答：' -}}{%- endif -%}
{%- else -%}
{{- content -}}
{%- endif -%}
{%- if loop.last and add_generation_prompt -%}{{- '[gMASK]<sop>' -}}{%- endif -%}
{%- elif message['role'] == 'assistant' -%}
{%- if loop.last -%}
{{- '[gMASK]<sop>' -}}
{%- generation -%}{{- (' ' + content if content else '') + '<eop>' -}}{%- endgeneration -%}
{%- else -%}
{%- generation -%}{{- content -}}{%- endgeneration -%}{{- '\\n' -}}
{%- endif -%}
{%- else -%}
{{- raise_exception('ChatGLM has no role ' + message['role']) -}}
{%- endif -%}
{%- endfor -%}
"""
)

CHATGLM2_TEMPLATE = (
    f"""\
{BLANK_BEFORE_ANSWERS}
"""
    + """\
{%- if tools -%}{{- raise_exception('ChatGLM2 knows no tools') -}}{%- endif -%}
{{- '[gMASK]sop' -}}
{%- set turns = messages -%}
{%- if messages[0]['role'] == 'system' -%}
{%- if messages[0]['content'] -%}{{- messages[0]['content'] + '\\n\\n' -}}{%- endif -%}
{%- set turns = messages[1:] -%}
{%- endif -%}
{%- for message in turns -%}
{%- set content = message['content'] or '' -%}
{%- if message['role'] == 'user' -%}
{{- '[Round ' ~ (loop.index0 // 2 + 1) ~ ']\\n\\n问：' + content + '\\n\\n' -}}
{%- if not loop.last or add_generation_prompt -%}{{- '答：' -}}{%- endif -%}
{%- elif message['role'] == 'assistant' -%}
{%- if loop.last -%}
{%- generation -%}{{- (' ' + content if content else '') + '</s>' -}}{%- endgeneration -%}
{%- else -%}
{%- generation -%}{{- content -}}{%- endgeneration -%}{{- '\\n\\n' -}}
{%- endif -%}
{%- else -%}
{{- raise_exception('ChatGLM2 has no role ' + message['role']) -}}
{%- endif -%}
{%- endfor -%}
"""
)

CHATGLM3_TEMPLATE = """\
{%- if tools -%}
{{- raise_exception('ChatGLM3 has its tools in the system message, under the key tools') -}}
{%- endif -%}
{{- '[gMASK]sop' -}}
{%- for message in messages -%}
{%- if message['role'] not in ['system', 'user', 'assistant', 'observation'] -%}
{{- raise_exception('ChatGLM3 has no role ' + message['role']) -}}
{%- endif -%}
{{- '<|' + message['role'] + '|>' -}}
{%- set content = message['content'] or '' -%}
{%- if message['role'] == 'system' and message['tools'] -%}
{%- set content = content + '\\n' + message['tools'] | tojson(indent=4) -%}
{%- endif -%}
{%- set text = (message['metadata'] or '') + '\\n' + (' ' + content if content else '') -%}
{%- if message['role'] == 'assistant' -%}
{%- generation -%}{{- text -}}
{%- if loop.last -%}{{- '</s>' -}}{%- endif -%}
{%- endgeneration -%}
{%- else -%}
{{- text -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}
"""

GLM4_TEMPLATE = """\
{{- '[gMASK]<sop>' -}}
{%- for message in messages -%}
{%- if message['role'] not in ['system', 'user', 'assistant', 'observation'] -%}
{{- raise_exception('GLM-4 has no role ' + message['role']) -}}
{%- endif -%}
{%- if tools or message['tools'] -%}
{{- raise_exception('tools need the published chat template of GLM-4: give it as chat_template') -}}
{%- endif -%}
{{- '<|' + message['role'] + '|>' -}}
{%- set text = (message['metadata'] or '') + '\\n' + (message['content'] or '') -%}
{%- if message['role'] == 'assistant' -%}
{%- generation -%}{{- text -}}
{%- if loop.last -%}{{- '<|user|>' -}}{%- endif -%}
{%- endgeneration -%}
{%- else -%}
{{- text -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}
"""


def has_answer_marks(chat_template: object) -> bool:
    """Whether a template tells which of its text is the assistant's."""
    return isinstance(chat_template, str) and "endgeneration" in chat_template
