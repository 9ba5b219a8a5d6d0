"""Data sets of several modalities, as LightningDataModules that do not depend on models.

``base`` holds their base class and ``loading`` the batches and loaders; ``missing`` and
``mask_files`` hide modalities. ``store``, ``store_problems`` and ``mapped`` are the prepared store,
a folder of arrays; ``splits`` divides samples into train, val and test. ``prepared``, ``openmoji``
and ``synthetic`` are data sets to train on, and ``sources`` reads the official files of others.
"""
