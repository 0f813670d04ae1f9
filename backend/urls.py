"""Every URL of the site: the API, its documentation, health and the admin."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("", include("backend.tradingbot.api.urls")),
    path("admin/", admin.site.urls),
]
