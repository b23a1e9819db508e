"""What the engine is started with: its share of the machine, its access control, in ClickHouse's own XML.

The engine lives beside Kafka, Redis and the pipeline on one machine, so it takes a quarter of the memory and small
caches (ClickHouse's defaults are nine tenths and 5 GiB a cache), and merges with two threads that yield to whatever
else wants a core. It knows one user, which every handle is; a handle that has taken the role READER_ROLE may read
tables and nothing else: no files, no other servers, nothing of what chDB's default user may do.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

READER_ROLE: Final = "reader"

_CONFIGURATION: Final = """\
<clickhouse>
  <!-- Users, roles and profiles stand below, in this same file. -->
  <users_config>{file}</users_config>

  <max_server_memory_usage_to_ram_ratio>0.25</max_server_memory_usage_to_ram_ratio>
  <mark_cache_size>268435456</mark_cache_size>
  <primary_index_cache_size>134217728</primary_index_cache_size>
  <index_mark_cache_size>67108864</index_mark_cache_size>
  <query_condition_cache_size>33554432</query_condition_cache_size>
  <compiled_expression_cache_size>33554432</compiled_expression_cache_size>
  <vector_similarity_index_cache_size>0</vector_similarity_index_cache_size>
  <text_index_tokens_cache_size>0</text_index_tokens_cache_size>
  <text_index_header_cache_size>0</text_index_header_cache_size>
  <text_index_postings_cache_size>0</text_index_postings_cache_size>

  <!-- Merges: two at once at most, and at the end of the kernel's queue. -->
  <background_pool_size>2</background_pool_size>
  <background_merges_mutations_concurrency_ratio>1</background_merges_mutations_concurrency_ratio>
  <merges_mutations_memory_usage_to_ram_ratio>0.1</merges_mutations_memory_usage_to_ram_ratio>
  <os_threads_nice_value_merge_mutate>10</os_threads_nice_value_merge_mutate>

  <profiles>
    <default>
      <max_threads>{threads}</max_threads>
      <max_insert_threads>1</max_insert_threads>
      <max_memory_usage>{query_memory_bytes}</max_memory_usage>
      <!-- An answered insert is a part on disk, not a row in a queue. -->
      <async_insert>0</async_insert>
    </default>
  </profiles>
  <quotas><default/></quotas>
  <roles>
    <owner><grants><query>GRANT ALL ON *.*</query></grants></owner>
    <{reader}><grants><query>GRANT SHOW, SELECT, dictGet ON *.*</query></grants></{reader}>
  </roles>
  <users>
    <default>
      <no_password/>
      <networks><ip>::1</ip><ip>127.0.0.1</ip></networks>
      <profile>default</profile>
      <quota>default</quota>
      <grants><query>GRANT owner</query><query>GRANT {reader}</query></grants>
    </default>
  </users>
</clickhouse>
"""

_QUERY_MEMORY_BYTES: Final = 4 * 1024**3


def write(file: Path, threads: int) -> None:
    """Writes the configuration, whole or not at all. A query takes `threads` threads at most."""
    text = _CONFIGURATION.format(
        file=escape(str(file)), threads=threads, query_memory_bytes=_QUERY_MEMORY_BYTES, reader=READER_ROLE
    )
    partial = file.with_name(file.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(file)
