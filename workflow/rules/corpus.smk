"""Text becomes documents, a tokenizer, and packed token shards.

Clones share tokenizer and shards under `--cache`. What decides them must then be params or upstream: Snakemake's key
leaves wildcards out.
"""


rule collect_documents:
    """Read the source, drop duplicates, and split the documents into training and three held-out shards."""
    input:
        section=section("corpus"),
        text=corpus_files(),
    output:
        manifest="<results>/corpus/documents/documents.json",
        shards=expand(
            "<results>/corpus/documents/{shard}.jsonl", shard=["train", *HELD_OUT]
        ),
    log:
        "<logs>/corpus/collect_documents.log",
    conda:
        "../../envs/driver.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 120 * attempt,
    params:
        code=fingerprint("evomix.corpus.documents"),
    message:
        "Collecting documents"
    shell:
        "python -m evomix collect-documents {input.section} {output.manifest} 2>&1 | tee {log}"


rule train_tokenizer:
    """Train the byte-level BPE vocabulary on the training documents."""
    input:
        section=section("corpus"),
        manifest="<results>/corpus/documents/documents.json",
        documents="<results>/corpus/documents/train.jsonl",
    output:
        "<results>/corpus/tokenizer.json",
    log:
        "<logs>/corpus/train_tokenizer.log",
    cache: True
    conda:
        "../../envs/driver.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: attempt
        * (16000 if study.corpus.source == "tinystories" else 4000),
        runtime=lambda wildcards, attempt: 120 * attempt,
    params:
        code=fingerprint("evomix.corpus.tokenizer"),
    message:
        "Training the tokenizer"
    shell:
        "python -m evomix train-tokenizer {input.section} {input.documents} {output} 2>&1 | tee {log}"


rule encode_shard:
    """Encode one shard as a packed stream of uint16 tokens with an end-of-text token after every document."""
    input:
        tokenizer="<results>/corpus/tokenizer.json",
        documents="<results>/corpus/documents/{shard}.jsonl",
    output:
        tokens="<results>/corpus/{shard}.bin",
        manifest="<results>/corpus/{shard}.json",
    log:
        "<logs>/corpus/encode_{shard}.log",
    cache: True
    conda:
        "../../envs/driver.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 120 * attempt,
    params:
        code=fingerprint("evomix.corpus.tokens"),
        shard=lambda wildcards: wildcards.shard,
    message:
        "Encoding shard {wildcards.shard}"
    shell:
        "python -m evomix encode-shard {input.tokenizer} {input.documents} {output.tokens} 2>&1 | tee {log}"


rule summarise_corpus:
    """Count documents, tokens and bytes of all shards; every later phase depends on this small file."""
    input:
        section=section("corpus"),
        manifests=expand("<results>/corpus/{shard}.json", shard=["train", *HELD_OUT]),
        tokens=expand("<results>/corpus/{shard}.bin", shard=["train", *HELD_OUT]),
    output:
        "<results>/corpus/stats.json",
    log:
        "<logs>/corpus/summarise_corpus.log",
    localrule: True
    conda:
        "../../envs/driver.yaml"
    params:
        code=fingerprint("evomix.corpus.tokens"),
    message:
        "Summarising the corpus"
    shell:
        "python -m evomix summarise-corpus {output} 2>&1 | tee {log}"
