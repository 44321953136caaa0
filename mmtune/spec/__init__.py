"""Search files and configs of one trial: read with the line of every key, checked, every problem raised at once.

A search file becomes a SearchSpec in this order::

    yamltree       (of trainables) text -> plain values, and the line of each
    values         the same of a dict, which has no lines
    document       -> Document: the values, and every problem noted so far with its place
    overrides      --set key=value changes the document
    sampler        what proposes trials, and which studies it learns from
    sections       objectives, scheduler, budget, resources: pydantic models
    domains        one domain of the space: pydantic models
    validation     how the models are read, and pydantic's errors in our words
    configkeys     what fixed and space name: the fields of TrialConfig, flat
    space_section  the space as a whole, try_first
    search_spec    load_spec: all of it -> SearchSpec

``configfile`` does the same for the config of one trial. ``shipped`` finds search files by name, ``searchfile`` tells
them from configs and writes the copy that a study keeps. ``keys``, ``settings_page`` and ``schema`` tell people and
editors what can be written.
"""
